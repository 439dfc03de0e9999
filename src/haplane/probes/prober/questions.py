"""What is asked, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from .config import PART, PARTS, Config
from .http import Response
from .services import Service

OK, FAILED, INDETERMINATE = "ok", "failed", "indeterminate"

Told = Mapping[str, object]
NOTHING: Told = MappingProxyType({})


class Question(NamedTuple):
    """One request. about: what is written down with it however it ends. done: the statuses of a success.

    data: empty where a connection that is made is all that is wanted.
    changes: it must not be repeated, so that without an answer nobody knows whether it was done.
    """

    probe: str
    data: bytes
    about: Told = NOTHING
    done: Collection[int] = (200,)
    changes: bool = False


def reading(config: Config, token: str, probe: str) -> Question:
    connection = "close" if probe == "new" else "keep-alive"
    who = [bearer(token)] if token else []
    return Question(probe, request(config, f"GET {config.path}", f"Connection: {connection}", *who))


def writing(config: Config, token: str, number: int) -> Question:
    key = f"{config.write_prefix}{number}"
    head = (f"POST {config.folder}", bearer(token), "Content-Type: application/json")
    body = _configmap(key, {PART: str(number % PARTS)})
    return Question("write", _with_body(config, body, *head), {"key": key}, done=(201,), changes=True)


def setting(config: Config, token: str, number: int) -> Question:
    """Server-side apply, because it needs no version and makes the register where there is none (API concepts)."""
    what = f"PATCH {config.folder}/{config.register}?fieldManager=haplane-prober&force=true"
    head = (what, bearer(token), "Content-Type: application/apply-patch+yaml")
    body = _configmap(config.register, data={"value": str(number)})
    return Question("set", _with_body(config, body, *head), {"value": number}, done=(200, 201), changes=True)


def getting(config: Config, token: str) -> Question:
    """No resourceVersion is asked for: the answer is not older than the question (API concepts)."""
    what = f"GET {config.folder}/{config.register}"
    return Question("get", request(config, what, bearer(token), "Connection: close"))


def asking(service: Service) -> Question:
    """A redirection is an answer of the service's, and is not followed."""
    data = _request(service.authority, f"GET {service.target}", "Connection: close") if service.target else b""
    return Question(service.probe, data, done=range(200, 400))


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def request(config: Config, what: str, *headers: str) -> bytes:
    return _request(config.server_hostname, what, *headers)


def _request(host: str, what: str, *headers: str) -> bytes:
    lines = (f"{what} HTTP/1.1", f"Host: {host}", "User-Agent: haplane-prober", "Accept: */*")
    return "\r\n".join((*lines, *headers, "", "")).encode()


def _with_body(config: Config, body: bytes, what: str, *headers: str) -> bytes:
    return request(config, what, "Connection: close", *headers, f"Content-Length: {len(body)}") + body


def _configmap(name: str, labels: Mapping[str, str] | None = None, **more: object) -> bytes:
    metadata = {"name": name} | ({"labels": labels} if labels else {})
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata} | more).encode()


def outcome_of_answer(question: Question, response: Response) -> tuple[str, str, Told]:
    """Outcome, kind and what the answer told. A change that the server could not finish (5xx) may have been made."""
    if question.probe == "get":
        return _outcome_of_getting(response)
    if response.status in question.done:
        version = version_of(json_object(response.body)) if question.changes else None
        return OK, "", NOTHING if version is None else {"version": version}
    refused = not question.changes or 400 <= response.status < 500
    return FAILED if refused else INDETERMINATE, f"http-{response.status}", NOTHING


def _outcome_of_getting(response: Response) -> tuple[str, str, Told]:
    """That there is no register yet is an answer too, if it is said of the ConfigMap and not of the path."""
    found = json_object(response.body)
    if response.status == 404 and within(found, "details", "kind") == "configmaps":
        return OK, "", NOTHING
    if response.status != 200:
        return FAILED, f"http-{response.status}", NOTHING
    value, version = number_in(within(found, "data", "value")), version_of(found)
    if value is None or version is None:
        return FAILED, "http-malformed", NOTHING
    return OK, "", {"value": value, "version": version}


def json_object(body: bytes) -> dict[str, Any]:
    """Empty where it is none."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def within(value: object, *keys: str) -> object:
    """What is found under these keys, one in the other; None where one is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def number_in(text: object) -> int | None:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else None


def version_of(found: object) -> int | None:
    """The resourceVersion of an object or a list. It is etcd's revision, and may be compared (KEP-5504)."""
    return number_in(within(found, "metadata", "resourceVersion"))


def outcome_of_timeout(stage: str) -> tuple[str, str]:
    """Outcome and kind of a request that ran out of time when its connection had come this far."""
    if stage == "sent":
        return INDETERMINATE, "timeout"
    return FAILED, "connect-timeout" if stage == "connect" else "tls-timeout"
