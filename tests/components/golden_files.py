"""What the components write on the first of three machines, kept to be read and compared.

`python -m tests.components.golden_files` writes them anew.
"""

from __future__ import annotations

from pathlib import Path

from tests.model.clusters import BUNDLE, three_nodes

from haplane.components.base import FileSet
from haplane.design.design import Design

FOLDER = Path(__file__).parent / "golden"


def file_sets() -> list[FileSet]:
    components = Design(three_nodes(), BUNDLE, authority="(the CA of the cluster)\n").components("cp1").values()
    return [files for component in components for files in component.file_sets]


def contents() -> dict[str, str]:
    """Path without the leading slash -> text."""
    return {file.path.lstrip("/"): file.content for files in file_sets() for file in files.files}


if __name__ == "__main__":
    for name, text in contents().items():
        (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_text(text)
