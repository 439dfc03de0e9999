"""How long work tells where it is; the command line shows it as one live line per subject, or as plain lines."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """subject: a machine's name or the thing being made; text: what is happening to it now."""

    def now(self, subject: str, text: str) -> None:
        """The subject is busy with this."""

    def done(self, subject: str, text: str) -> None:
        """The subject has finished with this result."""


class Silent:
    """Shows nothing."""

    def now(self, subject: str, text: str) -> None:
        pass

    def done(self, subject: str, text: str) -> None:
        pass
