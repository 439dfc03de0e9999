"""Lines of a component's own file, each with the reason for its value, and with what the user wrote instead."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from haplane.model.cluster import KeyPath, Sections


@dataclass(frozen=True)
class Setting:
    """What stands after a keyword. because: why. given: the key of cluster.yaml that says so; None if derived."""

    arguments: str
    because: str = ""
    given: KeyPath | None = None


# section -> keyword -> setting, in the order in which they are written.
Settings = Mapping[str, Mapping[str, Setting]]


def overridden(derived: Settings, *given: tuple[KeyPath, Sections]) -> Settings:
    """The settings with the user's own, of which later ones win. Each comes with its place in cluster.yaml."""
    result = {section: dict(settings) for section, settings in derived.items()}
    for place, sections in given:
        for section, lines in sections.items():
            for keyword, value in lines.items():
                path = (*place, section, keyword)
                if value is False:
                    result[section].pop(keyword, None)
                else:
                    arguments = "" if value is True else str(value)
                    result[section][keyword] = Setting(arguments, "as the file says", path)
    return result


def lines(settings: Mapping[str, Setting], *, indent: str = "  ", end: str = "") -> str:
    """Each line below a comment with its reason. end: of a line that is no comment."""
    return "".join(f"{indent}{line}\n" for line in _lines(settings, end))


def one_line(settings: Mapping[str, Setting]) -> str:
    """keyword arguments keyword arguments ..., as HAProxy's default-server wants them."""
    return " ".join(_written(keyword, setting) for keyword, setting in settings.items())


def _lines(settings: Mapping[str, Setting], end: str) -> Iterator[str]:
    for keyword, setting in settings.items():
        if setting.because:
            yield f"# {setting.because}"
        yield f"{_written(keyword, setting)}{end}"


def _written(keyword: str, setting: Setting) -> str:
    return f"{keyword} {setting.arguments}".rstrip()


def parameters(settings: Mapping[str, Setting]) -> str:
    """keyword=argument keyword ..., as nginx wants them behind a server."""
    return " ".join(f"{keyword}={one.arguments}" if one.arguments else keyword for keyword, one in settings.items())


def time_ms(setting: Setting | None, otherwise: float, *, unit_ms: float) -> float:
    """What a setting says, as `milliseconds`; otherwise where there is none, or it is not a time."""
    found = milliseconds(setting.arguments, unit_ms=unit_ms) if setting else None
    return otherwise if found is None else found


def whole(setting: Setting | None, otherwise: int) -> int:
    """The whole number that a setting says; otherwise where there is none."""
    return int(setting.arguments) if setting and setting.arguments.isdecimal() else otherwise


def milliseconds(text: str, *, unit_ms: float) -> float | None:
    """Of a time as HAProxy and keepalived write it: 250ms, 24h, or a number in the given unit. None: not a time."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h|d)?", text.strip())
    if not found:
        return None
    factors = {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
    return float(found[1]) * (factors[found[2]] if found[2] else unit_ms)
