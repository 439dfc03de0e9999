"""What the components write on the first of three machines, kept to be read and compared.

Of other balancers than HAProxy, what differs: their own files and keepalived's.

`python -m tests.components.golden_files` writes them anew.
"""

from __future__ import annotations

from pathlib import Path

from tests.model.clusters import BUNDLE, balanced_by

from haplane.components.base import FileSet
from haplane.design.design import Design
from haplane.model.cluster import BalancerProgram

FOLDER = Path(__file__).parent / "golden"
FOLDERS = {
    BalancerProgram.HAPROXY: FOLDER,
    BalancerProgram.NGINX: FOLDER.with_name("golden-nginx"),
    BalancerProgram.NONE: FOLDER.with_name("golden-none"),
}
DIFFERING = ("nginx", "keepalived")


def file_sets(by: BalancerProgram = BalancerProgram.HAPROXY) -> list[FileSet]:
    components = Design(balanced_by(by), BUNDLE, authority="(the CA of the cluster)\n").components("cp1")
    names = components if by is BalancerProgram.HAPROXY else [name for name in components if name in DIFFERING]
    return [files for name in names for files in components[name].file_sets]


def contents(by: BalancerProgram) -> dict[str, str]:
    """Path without the leading slash -> text."""
    return {file.path.lstrip("/"): file.content for files in file_sets(by) for file in files.files}


if __name__ == "__main__":
    for by, folder in FOLDERS.items():
        for name, text in contents(by).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
