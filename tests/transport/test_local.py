"""Programs on this host."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from haplane.transport import local

AUTOGROUP = Path("/proc/self/autogroup")


@pytest.mark.skipif(
    not AUTOGROUP.exists() or not AUTOGROUP.read_text(), reason="sessions do not count here (CONFIG_SCHED_AUTOGROUP)"
)
def test_what_runs_gently_leaves_processors_to_others_and_what_it_starts_is_no_nicer() -> None:
    before = AUTOGROUP.read_text()
    look = ["sh", "-c", f"sleep 0.3; cat {AUTOGROUP}; nice; setsid --wait cat {AUTOGROUP}"]
    _, out, _ = asyncio.run(local.run(look, gently=True))
    gentle, niceness, of_its_own = out.splitlines()
    assert gentle.endswith(f"nice {local.NICEST}")
    assert niceness == str(os.nice(0))
    assert of_its_own.endswith("nice 0")
    assert AUTOGROUP.read_text() == before
