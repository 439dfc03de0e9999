"""The prober as one file that `python3` runs, for a machine that has nothing of haplane."""

from __future__ import annotations

import importlib.resources
import io
import zipfile

NAME = "prober"
MAIN = f"import sys\n\nfrom {NAME}.main import main\n\nsys.exit(main(sys.argv[1:]))\n"


def packed() -> bytes:
    """Its modules in a zip file with a __main__.py (PEP 441); not compressed, so that no zlib is needed there."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), MAIN)
        for module in sorted(importlib.resources.files("haplane.probes.prober").iterdir(), key=lambda each: each.name):
            if module.name.endswith(".py"):
                archive.writestr(zipfile.ZipInfo(f"{NAME}/{module.name}"), module.read_bytes())
    return file.getvalue()
