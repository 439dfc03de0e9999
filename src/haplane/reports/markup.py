"""Text that XML and SVG can hold. Pure."""

from __future__ import annotations

import re
from html import escape

# What XML 1.0 cannot hold at all, not even escaped (section 2.2).
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def legal(line: str) -> str:
    return _NOT_XML.sub("\ufffd", line)


def xml(line: str) -> str:
    """For the content of an element and between double quotes."""
    return escape(legal(line), quote=False).replace('"', "&quot;")
