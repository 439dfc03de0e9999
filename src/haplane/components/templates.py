"""Jinja2 as components use it: a missing variable is an error, and blocks leave no empty lines."""

from __future__ import annotations

from jinja2 import BaseLoader, Environment, StrictUndefined

_ENVIRONMENT = Environment(
    loader=BaseLoader(),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # configuration files, not HTML
)


def render(template: str, /, **values: object) -> str:
    return _ENVIRONMENT.from_string(template).render(**values)
