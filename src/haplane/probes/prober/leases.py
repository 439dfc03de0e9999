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
from .http import Failed, Response
from .questions import bearer, outcome_of_timeout, request

LEASES = ("kube-controller-manager", "kube-scheduler")
LEASES_NAMESPACE = "kube-system"


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

    def _question(self, name: str) -> bytes:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{LEASES_NAMESPACE}/leases/{name}"
        return request(self._config, f"GET {path}", "Connection: keep-alive", bearer(self._token))

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
