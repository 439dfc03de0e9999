"""The picture in docs/architecture.md and the import contracts tell the same story."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from haplane.phases.apply import PHASES

ROOT = Path(__file__).parent.parent


def test_the_layer_picture_is_the_import_contract() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contract = next(one for one in settings["tool"]["importlinter"]["contracts"] if one["id"] == "layers")
    layers = [layer.removeprefix("haplane.") for layer in contract["layers"]]
    picture = (ROOT / "docs/architecture.md").read_text().split("```")[1]
    assert re.findall(r"^(\w+) {2,}", picture, re.MULTILINE) == layers


def test_every_package_is_a_layer() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contract = next(one for one in settings["tool"]["importlinter"]["contracts"] if one["id"] == "layers")
    packages = {f"haplane.{path.parent.name}" for path in (ROOT / "src/haplane").glob("*/__init__.py")}
    assert packages == set(contract["layers"])


def test_the_table_of_phases_is_in_their_order() -> None:
    table = (ROOT / "docs/architecture.md").read_text().split("| phases | on |")[1].split("\n\n")[0]
    order = [phase.__name__ for phase in PHASES]
    named = [name for name in re.findall(r"`(\w+)`", table) if name in order]
    assert named == sorted(named, key=order.index)
    assert {"RemoveAddOns", "StopBalancers", "WaitUntilWhole"} <= {*named}
