from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from origin import Heard, Origin, filled


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    serving = filled()
    yield serving
    serving.close()
