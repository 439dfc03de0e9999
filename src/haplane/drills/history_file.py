"""A drill's history on disk, line by line as it happens, before anything judges it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TextIO

from haplane.model.errors import HaplaneError, UsageError
from haplane.probes.history import History, parse


class HistoryFile:
    def __init__(self, path: Path, file: TextIO) -> None:
        self.path = path
        self._file = file

    @classmethod
    def new(cls, folder: Path, drill: str) -> Self:
        """DRILL-TIME.jsonl in this folder. Raises HaplaneError when it cannot be made."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        path = folder / f"{drill}-{stamp}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Line by line: what was seen is there even if haplane is killed.
            return cls(path, path.open("w", buffering=1))
        except OSError as error:
            raise HaplaneError(
                "the history cannot be saved, so nothing was broken", where=str(path), why=str(error)
            ) from None

    def write(self, line: str) -> None:
        self._file.write(line + "\n")

    def close(self) -> History:
        """The history as it was saved."""
        self._file.close()
        return read(self.path)


def read(path: Path) -> History:
    """Raises HaplaneError, with the line where there is a wrong one, when the file cannot be read."""
    try:
        with path.open(encoding="utf-8") as file:
            # Of a file of another kind each line would be wrong.
            if first := file.readline():
                json.loads(first)
            file.seek(0)
            return parse(file, file=str(path))
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise _no_history(path) from None
    except OSError as error:
        raise HaplaneError("the history cannot be read", where=str(path), why=error.strerror or str(error)) from None


def _no_history(path: Path) -> UsageError:
    return UsageError("this is no history of a drill", where=str(path), hint="a drill says where it saved its own")
