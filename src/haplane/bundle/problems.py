"""Why a source cannot be used, and why what it gave must not be used."""

from __future__ import annotations

from haplane.model.errors import HaplaneError


class SourceUnavailable(HaplaneError):
    """The source cannot be reached or lacks this version: the next source is tried."""


class BadContent(HaplaneError):
    """The source gave something else than its checksum promises. It may be an attack, so no other source is tried."""
