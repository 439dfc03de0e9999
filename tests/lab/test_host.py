"""What is missing on this host is said before anything starts."""

from __future__ import annotations

import os

import pytest

from haplane.lab import host
from haplane.model.errors import ExitCode, UsageError


def test_everything_that_is_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(host, "PROGRAMS", {"no-such-podman": "podman", "no-such-runc": "runc"})
    with pytest.raises(UsageError) as caught:
        host.check_host()
    assert caught.value.exit_code is ExitCode.USAGE
    assert "not root" in caught.value.why
    assert "sudo" in caught.value.hint
    assert "apt-get install --no-install-recommends podman runc" in caught.value.hint
