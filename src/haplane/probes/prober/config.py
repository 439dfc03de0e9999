"""What to ask, and how often: read and checked."""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from .services import ServiceError, services_of

NAMESPACE = "haplane-drill"
# The apiserver's own word that it is alive, for whoever has no account. etcd has a part in it.
OPEN_TO_ALL = "/livez"
PAGE = "page"  # a ConfigMap that is there before all others, and stays as it is
# A label of what is written, with so many values: an apiserver removes what has one of them one after the other.
PART, PARTS = "haplane-drill/part", 32
GETS_PER_SET = 2  # one read begins with each write and overlaps it, one between two writes


class ConfigError(ValueError):
    """The configuration cannot be used; the text says why."""


@dataclass(frozen=True)
class Config:
    """What to ask, and how often. A rate of 0 leaves that probe out. Files are paths on the prober's machine.

    token_file holds the bearer token, and must not be readable by others; empty: path is read without one. write_prefix
    begins the names of what is made. The register is set register_rate times a second and read GETS_PER_SET times as
    often. kubectl is the path of that program, which watches what is made; empty leaves it out.
    services are URLs of the user's own services, each asked service_rate times a second with service_timeout_s to
    answer; how many of them may be lost (service_failed_at_most, of each) is for those who judge what was seen.
    in_flight_limit bounds the connections that wait at the same time, for each of the probes that make new ones; None
    means their rate * timeout_s * 2, which is never reached unless the prober itself is too slow.
    """

    address: str
    port: int
    server_hostname: str
    ca_file: str
    path: str = OPEN_TO_ALL
    rate: float = 50.0
    persistent_rate: float = 10.0
    timeout_s: float = 3.0
    duration_s: float = 60.0
    in_flight_limit: int | None = None
    write_rate: float = 0.0
    write_prefix: str = "w-"
    namespace: str = NAMESPACE
    token_file: str = ""
    idle_connections: int = 0
    register_rate: float = 0.0
    watches: int = 0
    lease_rate: float = 0.0
    kubectl: str = ""
    services: tuple[str, ...] = ()
    service_rate: float = 10.0
    service_timeout_s: float = 1.0
    service_failed_at_most: int = 0

    def __post_init__(self) -> None:
        try:
            ipaddress.ip_address(self.address)
        except ValueError:
            raise ConfigError(f"address must be an IP address, not {self.address!r}: names are not looked up") from None
        if not 0 < self.port < 65536:
            raise ConfigError(f"port must be between 1 and 65535, not {self.port}")
        if not self.path.startswith("/") or not self.path.isascii() or not self.path.isprintable() or " " in self.path:
            raise ConfigError(f"path must begin with / and have no spaces, not {self.path!r}")
        rates = ("rate", "persistent_rate", "write_rate", "register_rate", "lease_rate", "service_rate")
        for name in (*rates, "timeout_s", "service_timeout_s", "duration_s"):
            number = getattr(self, name)
            least = "at least 0" if name.endswith("rate") else "more than 0"
            if not math.isfinite(number) or number < 0 or (number == 0 and not name.endswith("rate")):
                raise ConfigError(f"{name} must be {least}, not {number}")
        if self.in_flight_limit is not None and self.in_flight_limit < 1:
            raise ConfigError(f"in_flight_limit must be at least 1, not {self.in_flight_limit}")
        for name in ("idle_connections", "watches", "service_failed_at_most"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be at least 0, not {getattr(self, name)}")
        try:
            services_of(self.services)
        except ServiceError as error:
            raise ConfigError(f"{error.url} cannot be asked: {error}") from None
        for name, pattern in (
            ("namespace", "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"),
            ("write_prefix", "[a-z0-9][-a-z0-9]{0,62}"),
        ):
            if not re.fullmatch(pattern, getattr(self, name)):
                raise ConfigError(f"{name} cannot be (part of) a name in Kubernetes: {getattr(self, name)!r}")
        if self.needs_token and not self.token_file:
            raise ConfigError("write_rate, register_rate, watches, lease_rate and kubectl need a token_file")

    @property
    def needs_token(self) -> bool:
        return bool(self.write_rate or self.register_rate or self.watches or self.lease_rate or self.kubectl)

    @property
    def get_rate(self) -> float:
        return self.register_rate * GETS_PER_SET

    @property
    def folder(self) -> str:
        """Where the apiserver has the ConfigMaps of the namespace."""
        return configmaps(self.namespace)

    @property
    def register(self) -> str:
        """The name of the ConfigMap that is set and read."""
        return f"{self.write_prefix}register"

    def in_flight(self, rate: float) -> int:
        """The bound that holds for a probe with this rate."""
        longest_s = max(self.timeout_s, self.service_timeout_s)
        return self.in_flight_limit or max(16, math.ceil(rate * longest_s * 2))

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def configmaps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def cached_read(namespace: str) -> str:
    """A path that an apiserver answers from its memory, as it does most of what clients read (API concepts)."""
    return f"{configmaps(namespace)}/{PAGE}?resourceVersion=0"


def read_config(text: str) -> Config:
    """The Config that this JSON object describes. Raises ConfigError."""
    try:
        read = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"the configuration is not JSON: {error}") from None
    if not isinstance(read, dict):
        raise ConfigError("the configuration must be a JSON object")
    return config_from(read)


def config_from(values: Mapping[str, object]) -> Config:
    """The Config with these values. Raises ConfigError when a key or a type is wrong."""
    kinds: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
    kinds["int | None"] = (int, type(None))
    kinds["tuple[str, ...]"] = (list, tuple)
    known = {each.name: kinds[str(each.type)] for each in fields(Config)}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"unknown key {name!r}; known: {', '.join(known)}")
        if isinstance(value, bool) or not isinstance(value, known[name]):
            raise ConfigError(f"{name} must be {' or '.join(kind.__name__ for kind in known[name])}, not {value!r}")
        if isinstance(value, list | tuple) and not all(isinstance(each, str) for each in value):
            raise ConfigError(f"{name} must hold texts, not {value!r}")
    missing = [name for name in ("address", "port", "server_hostname", "ca_file") if name not in values]
    if missing:
        raise ConfigError(f"missing: {', '.join(missing)}")
    # JSON has lists only.
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Config(**values)  # type: ignore[arg-type]  # checked above
