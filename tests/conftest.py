"""For all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

# How long an example takes says something of the host alone.
settings.register_profile("haplane", deadline=None)
settings.load_profile("haplane")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on a wire of their own need root and take seconds: `make check` leaves them to `make test`."""
    for item in items:
        if {"lan", "wire"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("wire")
