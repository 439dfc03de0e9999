"""For all tests."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on a wire of their own need root and take seconds: `make check` leaves them to `make test`."""
    for item in items:
        if {"lan", "wire"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("wire")
