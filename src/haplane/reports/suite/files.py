"""The report as files in a folder: a page, a text for a wiki, JUnit for CI, and JSON for the next comparison."""

from __future__ import annotations

import os
from pathlib import Path

from haplane.model.errors import HaplaneError
from haplane.reports.suite import junit, markdown, page, saved
from haplane.reports.suite.comparison import Comparison
from haplane.reports.suite.report import SuiteReport

PAGE, WIKI, JUNIT, JSON = "index.html", "report.md", "junit.xml", "report.json"


def texts(report: SuiteReport, compared: Comparison | None = None) -> dict[str, str]:
    """File name -> content. The same report gives the same bytes."""
    return {
        PAGE: page.written(report, compared),
        WIKI: markdown.written(report, compared),
        JUNIT: junit.written(report),
        JSON: saved.written(report),
    }


def write(report: SuiteReport, folder: Path, compared: Comparison | None = None) -> Path:
    """Writes them all, each atomically, and returns the page. Raises HaplaneError when the folder cannot be written."""
    made = texts(report, compared)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            _replace(folder / name, text)
    except OSError as error:
        raise HaplaneError(f"{folder} cannot be written", where=str(folder), why=str(error)) from None
    return folder / PAGE


def _replace(path: Path, text: str) -> None:
    """Who reads it meanwhile sees the old file or the new one."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
