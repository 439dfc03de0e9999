"""The files of a design on disk, for review and for repositories: what apply would write, byte for byte."""

from __future__ import annotations

from pathlib import Path

from haplane.design.design import Design
from haplane.model.errors import UsageError

# The names of all files of the last render, so that the next one can remove what is no longer part of the design.
LIST = ".haplane-rendered"


def files(design: Design) -> dict[str, str]:
    """MACHINE/etc/... -> content. No secret is in a design: keys are made on machines and stay there."""
    return {
        f"{machine}{file.path}": file.content
        for machine in design.cluster.machines
        for component in design.components(machine).values()
        for file in component.files
    }


def write(design: Design, folder: Path) -> int:
    """Writes them into the folder; returns how many. Raises UsageError where something else lies already."""
    found = files(design)
    known = folder / LIST
    try:
        before = known.read_text().splitlines() if known.exists() else []
        if folder.exists() and not known.exists() and any(folder.iterdir()):
            raise UsageError(
                f"{folder} is not empty, and haplane has never rendered there",
                where=str(folder),
                hint="render into a folder of its own",
            )
        folder.mkdir(parents=True, exist_ok=True)
        # First the list: should this end half-way, the next render knows what is its own.
        known.write_text("".join(f"{name}\n" for name in sorted({*before, *found})))
        for name, content in found.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
        for name in set(before) - set(found):
            (folder / name).unlink(missing_ok=True)
        known.write_text("".join(f"{name}\n" for name in sorted(found)))
    except OSError as error:
        raise UsageError(f"{folder} cannot be written", where=str(folder), why=str(error)) from None
    return len(found)
