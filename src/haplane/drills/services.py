"""Services of the user's own, asked while a drill runs: which, and whether they answer at all. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from haplane.model.errors import UsageError
from haplane.probes.history import History
from haplane.probes.prober import ServiceError, service_probe, services_of


@dataclass(frozen=True)
class Services:
    """failed_at_most: how many requests of each may not be served, from the fault to the end."""

    urls: tuple[str, ...] = ()
    failed_at_most: int = 0


NO_SERVICES = Services()


def services(urls: Sequence[str], failed_at_most: int) -> Services:
    """Raises UsageError with the URL that cannot be asked, and why."""
    if failed_at_most < 0:
        raise UsageError("--ask-failed-at-most must be at least 0")
    if failed_at_most and not urls:
        raise UsageError("--ask-failed-at-most needs an --ask", why="it bounds what a service asked so may lose")
    try:
        services_of(urls)
    except ServiceError as error:
        raise UsageError(
            "this service cannot be asked", where=f"--ask {error.url}", why=str(error), hint=error.hint
        ) from None
    return Services(tuple(urls), failed_at_most)


def refuse_silent(asked: Services, seen: History, client: str) -> None:
    """Raises UsageError for a service that has not been served once so far. seen: until the fault."""
    for url in asked.urls:
        requests = seen.requests(service_probe(url))
        if not any(request.ok for request in requests):
            kinds = Counter(request.kind for request in requests).most_common()
            counted = ", ".join(f"{count} {kind}" for kind, count in kinds)
            raise UsageError(
                f"{url} was not served once before the fault; nothing was broken",
                where=client,
                why=f"{len(requests)} requests: {counted}" if requests else "nothing was asked yet",
                hint=f"a drill shows whether it goes on: it has to answer {client} (200 to 399 within 1 s) first",
            )
