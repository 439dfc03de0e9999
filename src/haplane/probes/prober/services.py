"""Services of the user's own: what a URL says, and what is asked of it."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

SERVICE = "service"
SERVICES_LIMIT = 8
# Less than the prober is given to start.
LOOK_UP_WITHIN_S = 10.0
_PORTS = {"http": 80, "https": 443, "tcp": None}
_FORMS = "http://HOST:PORT/PATH, https://HOST:PORT/PATH or tcp://HOST:PORT"


class ServiceError(ValueError):
    """This URL cannot be asked; the text says why. url: without what might be a password."""

    def __init__(self, url: str, why: str, hint: str = f"it has to be {_FORMS}") -> None:
        super().__init__(why)
        self.url = re.sub(r"^(\w+://|//)?.*@", lambda found: f"{found[1] or ''}***@", url, flags=re.DOTALL)
        self.hint = hint


class Service(NamedTuple):
    """target: what is asked for over HTTP; empty for tcp, where a connection that is made is the answer."""

    url: str
    scheme: str
    host: str
    port: int
    target: str

    @property
    def probe(self) -> str:
        return service_probe(self.url)

    @property
    def authority(self) -> str:
        """The Host header (RFC 9110 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def service_probe(url: str) -> str:
    """What the requests of this service are called in a history."""
    return f"{SERVICE} {url}"


def services_of(urls: Sequence[str]) -> tuple[Service, ...]:
    """What these URLs mean. Raises ServiceError."""
    if len(urls) > SERVICES_LIMIT:
        why = f"it is one of {len(urls)}, and at most {SERVICES_LIMIT} are asked"
        raise ServiceError(urls[SERVICES_LIMIT], why, "leave out those that say the same")
    found: list[Service] = []
    for url in urls:
        service = service_of(url)
        if any(service[1:] == other[1:] for other in found):
            raise ServiceError(url, "it is given twice", "give each service once")
        found.append(service)
    return tuple(found)


def service_of(url: str) -> Service:
    """What this URL means. Raises ServiceError."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ServiceError(url, "it has spaces or characters that no URL has", "write them as %20 and so on")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ServiceError(url, str(error)) from None
    if parts.scheme not in _PORTS or not url[len(parts.scheme) :].startswith("://"):
        raise ServiceError(url, "it does not begin with http://, https:// or tcp://")
    if "@" in parts.netloc:
        hint = "ask a page that needs none: it would be in the history and in every report"
        raise ServiceError(url, "it has a user or a password", hint)
    if not parts.hostname:
        raise ServiceError(url, "it names no host")
    if not _is_host(parts.hostname):
        raise ServiceError(url, f"{parts.hostname} is neither a name nor an address")
    if "#" in url:
        raise ServiceError(url, "it has a fragment", "leave out the # and what follows: no server is ever sent it")
    try:
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
    except ValueError:
        port = 0
    if port is None:
        raise ServiceError(url, "it names no port")
    if port == 0:
        raise ServiceError(url, "its port is no number from 1 to 65535")
    if parts.scheme == "tcp" and (parts.path or "?" in url):
        raise ServiceError(url, "there is no path to ask for over tcp", f"leave it out: tcp://{parts.netloc}")
    query = f"?{parts.query}" if parts.query else ""
    target = "" if parts.scheme == "tcp" else f"{parts.path or '/'}{query}"
    return Service(url, parts.scheme, parts.hostname, port, target)


def _is_host(host: str) -> bool:
    """No address with a zone: that means something on one machine only."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return re.fullmatch(r"[a-z0-9]([-a-z0-9_.]{0,251}[a-z0-9])?\.?", host) is not None
    return "%" not in host


def look_up_all(services: Sequence[Service], *, within_s: float = LOOK_UP_WITHIN_S) -> list[tuple[Service, str]]:
    """Each with its address, the first where it has several. Raises ServiceError for the first that has none.

    Once, before anything is asked: what is measured is the service, and no name server. Side by side, and in threads
    that nobody has to wait for: a name server that is silent keeps its asker for half a minute, and cannot be given up.
    """
    found: dict[Service, str | ServiceError] = {}

    def find(service: Service) -> None:
        try:
            found[service] = _look_up(service)
        except ServiceError as error:
            found[service] = error

    threads = [threading.Thread(target=find, args=(service,), daemon=True) for service in services]
    end = time.monotonic() + within_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    addresses: list[tuple[Service, str]] = []
    for service in services:
        address = found.get(service)
        if address is None:
            why = f"no name server has said within {within_s:g} s where {service.host} is"
            raise ServiceError(service.url, why, "an address needs no look-up")
        if isinstance(address, ServiceError):
            raise address
        addresses.append((service, address))
    return addresses


def _look_up(service: Service) -> str:
    try:
        return str(socket.getaddrinfo(service.host, service.port, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        why = f"{service.host} was not found: {error}"
        raise ServiceError(service.url, why, "an address needs no look-up") from None
