"""How long work tells where it is; the command line shows it as one live line per subject, or as plain lines."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """subject: a machine's name or the thing being made; text: what is happening to it now."""

    def step(self, subject: str, text: str) -> None:
        """The subject begins this; said once, and kept in a log."""

    def now(self, subject: str, text: str) -> None:
        """The subject is busy with this; may change many times a second, and a log may leave some out."""

    def live(self, subject: str, text: str) -> None:
        """What it looks like at this moment: for a line that is written over, in no log. Empty: no such line."""

    def done(self, subject: str, text: str) -> None:
        """The subject has finished with this result."""


class Silent:
    """Shows nothing."""

    def step(self, subject: str, text: str) -> None:
        pass

    def now(self, subject: str, text: str) -> None:
        pass

    def live(self, subject: str, text: str) -> None:
        pass

    def done(self, subject: str, text: str) -> None:
        pass
