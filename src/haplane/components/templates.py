"""Jinja2 as components use it: a missing variable is an error, and blocks leave no empty lines."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment, Template


def render(template: str, /, **values: object) -> str:
    return _compiled(template).render(**values)


@cache
def _compiled(template: str) -> Template:
    """Compiling takes longer than rendering, and each template is rendered once per machine."""
    return _environment().from_string(template)


@cache
def _environment() -> Environment:
    """Imported here: most commands read designs and write no file."""
    from jinja2 import BaseLoader, Environment, StrictUndefined

    return Environment(
        loader=BaseLoader(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # configuration files, not HTML
    )
