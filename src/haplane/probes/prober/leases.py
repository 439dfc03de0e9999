"""Who acts, by lease."""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
from collections.abc import Mapping

from .clock import Emit, us
from .config import Config
from .connection import Connection
from .http import Failed, Response, Stream
from .questions import bearer, json_object, outcome_of_timeout, request, within

LEASES = ("kube-controller-manager", "kube-scheduler")
LEASES_NAMESPACE = "kube-system"
FOLDER = f"/apis/coordination.k8s.io/v1/namespaces/{LEASES_NAMESPACE}/leases"
PAUSE_S = 0.5  # between the beginnings of two attempts to watch, so that a server in trouble is not flooded


class Leases:
    """Reads the leases of the controllers, as they are stored then.

    One object that is asked for without a resourceVersion does not come from a cache (Kubernetes API concepts).
    """

    def __init__(self, config: Config, tls: ssl.SSLContext, emit: Emit, token: str) -> None:
        self._config = config
        self._tls = tls
        self._emit = emit
        self._token = token
        self._loop = asyncio.get_running_loop()

    async def look(self, due: float) -> None:
        """One line for each lease, until timeout_s after it was due."""
        connection = Connection(self._tls, self._config.server_hostname)
        left = list(LEASES)
        sent_at: float | None = None
        kind = ""
        try:
            async with asyncio.timeout_at(due + self._config.timeout_s):
                await connection.open(self._config.address, self._config.port)
                while left:
                    sent_at = self._loop.time()
                    response, end = await connection.ask(self._question(left[0]))
                    kind, said = lease_of(response)
                    self._write(left.pop(0), due, kind, sent_at, end, said)
        except TimeoutError:
            kind = outcome_of_timeout(connection.stage)[1]
        except Failed as failed:
            kind = failed.kind
        finally:
            connection.abort()
        for name in left:
            self._write(name, due, kind, sent_at, self._loop.time(), {})
            sent_at = None

    async def watch(self, name: str) -> None:
        """One line whenever it is given back, for the next holder may have it before it is read. Until cancelled."""
        while True:
            began = self._loop.time()
            await self._follow(name)
            await asyncio.sleep(began + PAUSE_S - self._loop.time())

    async def _follow(self, name: str) -> None:
        """From what it says now, until the stream ends or nothing came for timeout_s: it is renewed more often."""
        stream = Stream()

        def take(data: bytes) -> None:
            for line in stream.feed(data):
                self._told(name, line)
            if not limit.expired():
                limit.reschedule(self._loop.time() + self._config.timeout_s)
            if stream.ended:
                raise Failed("closed")

        connection = Connection(self._tls, self._config.server_hostname)
        try:
            async with asyncio.timeout(self._config.timeout_s) as limit:
                await connection.open(self._config.address, self._config.port)
                path = f"{FOLDER}?watch=1&fieldSelector=metadata.name%3D{name}"
                await connection.follow(request(self._config, f"GET {path}", bearer(self._token)), take)
        except (TimeoutError, Failed):
            pass  # what was not told meanwhile is not known: nothing is written
        finally:
            connection.abort()

    def _told(self, name: str, line: bytes) -> None:
        spec = within(json_object(line), "object", "spec")
        if not isinstance(spec, dict) or spec.get("holderIdentity"):
            return
        count = spec.get("leaseTransitions") or 0
        if isinstance(count, int):
            self._emit({"t": us(self._loop.time()), "probe": "given-back", "name": name, "transitions": count})

    def _question(self, name: str) -> bytes:
        return request(self._config, f"GET {FOLDER}/{name}", "Connection: keep-alive", bearer(self._token))

    def _write(
        self, name: str, due: float, kind: str, sent_at: float | None, end: float, said: Mapping[str, object]
    ) -> None:
        line: dict[str, object] = {"t": us(due), "probe": "lease", "name": name, "kind": kind}
        line |= {"sent_at": None if sent_at is None else us(max(sent_at, due)), "end": us(end)}
        self._emit({**line, **said})


def lease_of(response: Response) -> tuple[str, dict[str, object]]:
    """Kind, empty where the answer holds a coordination.k8s.io/v1 Lease; and what that says."""
    if response.status != 200:
        return f"http-{response.status}", {}
    try:
        spec = json.loads(response.body)["spec"]
        return "", {
            "holder": str(spec.get("holderIdentity") or ""),
            "acquired": us(datetime.datetime.fromisoformat(spec["acquireTime"]).timestamp()),
            "renewed": us(datetime.datetime.fromisoformat(spec["renewTime"]).timestamp()),
            "duration_s": float(spec["leaseDurationSeconds"]),
            "transitions": int(spec.get("leaseTransitions") or 0),
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        return "malformed", {}
