"""The report as files in a folder: a page, a text for a wiki, JUnit for CI, and JSON for the next comparison.

Pictures may lie beside them: file name -> PNG, as `reports.pictures` draws them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from haplane.model.errors import HaplaneError
from haplane.reports.suite import junit, markdown, page, saved
from haplane.reports.suite.comparison import Comparison
from haplane.reports.suite.report import SuiteReport
from haplane.transport.files import HINT, replace_file

PAGE, WIKI, JUNIT, JSON = "index.html", "report.md", "junit.xml", "report.json"
NO_PICTURES: Mapping[str, bytes] = MappingProxyType({})


def texts(report: SuiteReport, compared: Comparison | None = None, pictures: Collection[str] = ()) -> dict[str, str]:
    """File name -> content. The same report gives the same bytes. pictures: the files that may be linked."""
    return {
        PAGE: page.written(report, compared),
        WIKI: markdown.written(report, compared, pictures),
        JUNIT: junit.written(report),
        JSON: saved.written(report, pictures),
    }


def write(
    report: SuiteReport,
    folder: Path,
    compared: Comparison | None = None,
    pictures: Mapping[str, bytes] = NO_PICTURES,
) -> Path:
    """Writes them all, each atomically, and returns the page. Raises HaplaneError when the folder cannot be written."""
    made = texts(report, compared, pictures)
    # What is linked is there before what links it.
    contents = {**pictures, **{name: text.encode() for name, text in made.items()}}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            replace_file(folder / name, content)
    except OSError as error:
        raise HaplaneError(
            f"{folder} cannot be written",
            where=str(folder),
            why=error.strerror or str(error),
            hint=HINT,
        ) from None
    return folder / PAGE
