"""What is asked, and what came of it."""

from __future__ import annotations

import json
from typing import NamedTuple

from .config import Config

OK, FAILED, INDETERMINATE = "ok", "failed", "indeterminate"


class Question(NamedTuple):
    """One request. key names what it makes; a request without one may be repeated, so that its failure is a failure."""

    probe: str
    data: bytes
    key: str = ""


def reading(config: Config, probe: str) -> Question:
    connection = "close" if probe == "new" else "keep-alive"
    return Question(probe, _request(config, f"GET {config.path}", f"Connection: {connection}"))


def writing(config: Config, token: str, number: int) -> Question:
    key = f"{config.write_prefix}{number}"
    body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": key}}).encode()
    headers = (f"Authorization: Bearer {token}", "Content-Type: application/json", f"Content-Length: {len(body)}")
    what = f"POST /api/v1/namespaces/{config.namespace}/configmaps"
    return Question("write", _request(config, what, "Connection: close", *headers) + body, key)


def _request(config: Config, what: str, *headers: str) -> bytes:
    lines = (f"{what} HTTP/1.1", f"Host: {config.server_hostname}", "User-Agent: haplane-prober", "Accept: */*")
    return "\r\n".join((*lines, *headers, "", "")).encode()


def outcome_of_answer(question: Question, status: int) -> tuple[str, str]:
    """Outcome and kind. A write that the server could not finish (5xx) or answered otherwise may be stored."""
    if status == (201 if question.key else 200):
        return OK, ""
    refused = not question.key or 400 <= status < 500
    return FAILED if refused else INDETERMINATE, f"http-{status}"


def outcome_of_timeout(stage: str) -> tuple[str, str]:
    """Outcome and kind of a request that ran out of time when its connection had come this far."""
    if stage == "sent":
        return INDETERMINATE, "timeout"
    return FAILED, "connect-timeout" if stage == "connect" else "tls-timeout"
