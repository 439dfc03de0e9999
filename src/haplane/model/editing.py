"""Single values of a cluster.yaml set or added in its text, which is otherwise kept byte for byte.

A YAML library that writes a document again changes its layout; here only the characters of one value are replaced, or
one is put behind the last one of its mapping.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import yaml

from haplane.model.cluster import KeyPath, Value
from haplane.model.errors import InvalidFile, UsageError
from haplane.model.reading import Loader, dotted, read_document

Scalar = str | int | float | bool | None

_INDENT = 2
_LINE_END = re.compile(r"\r\n|\n|\r")
_BYTE_ORDER_MARK = "\ufeff"


def edited(text: str, changes: Mapping[KeyPath, Scalar], *, file: str = "cluster.yaml") -> str:
    """The text with these values. What is missing is added at the end of its mapping, with the mappings around it.

    file: its name in errors. Raises InvalidFile when the text cannot be read, UsageError when a change does not fit it.
    """
    body = text.removeprefix(_BYTE_ORDER_MARK)
    expected: Value = _root(body, file)
    for path, value in changes.items():
        expected = _changed(expected, path, value)
        body = _with_value(body, path, value)
    _make_sure(body, expected, file)
    return text[: len(text) - len(text.removeprefix(_BYTE_ORDER_MARK))] + body


def written(value: Scalar) -> str:
    """A value as YAML on one line, in quotes where its reader would take it for something else."""
    if not isinstance(value, str):
        return json.dumps(value)
    if _stands_plain(value):
        return value
    # JSON's text is YAML's, but these end a line or begin a file, and YAML's readers take them away.
    quoted = json.dumps(value, ensure_ascii=False)
    return re.sub("[\x85\u2028\u2029\ufeff]", lambda found: f"\\u{ord(found.group()):04x}", quoted)


def _stands_plain(text: str) -> bool:
    """Whether it is read as itself without quotes, on a line and in braces."""
    if not text.isprintable():
        return False
    try:
        documents = [read_document(around, file="") for around in (f"a: {text}", f"{{a: {text}}}")]
    except InvalidFile:
        return False
    return all(not document.problems and document.root == {"a": text} for document in documents)


def _root(text: str, file: str) -> dict[str, Value]:
    document = read_document(text, file=file)
    if document.problems:
        raise InvalidFile(file, document.problems)
    return document.root


def _make_sure(text: str, expected: Value, file: str) -> None:
    """YAML has more ways to write a mapping than are known here; none of them may be damaged."""
    try:
        # repr tells 1 from true, and one order from another.
        fits = repr(_root(text, file)) == repr(expected)
    except InvalidFile:
        fits = False
    if not fits:
        hint = "write the mapping around it with one key on each line, or edit it by hand"
        raise UsageError("the file is written in a way that cannot be changed here", where=file, hint=hint)


# ---- the values ----


def _changed(around: Value, path: KeyPath, value: Scalar, depth: int = 0) -> Value:
    """What is at path[:depth], with this value at the path."""
    if depth == len(path):
        if isinstance(around, dict | list):
            raise _unfit(path, depth, "holds more than one value")
        return value
    key = path[depth]
    if isinstance(around, list) and isinstance(key, int) and 0 <= key < len(around):
        return [*around[:key], _changed(around[key], path, value, depth + 1), *around[key + 1 :]]
    if isinstance(around, dict | None) and isinstance(key, str):
        known = around or {}
        return {**known, key: _changed(known.get(key), path, value, depth + 1)}
    raise _unfit(path, depth, f"has no {dotted((key,))}")


def _unfit(path: KeyPath, depth: int, why: str) -> UsageError:
    return UsageError(f"{dotted(path)} cannot be set", why=f"{dotted(path[:depth]) or 'the file'} {why}")


# ---- the text ----


def _with_value(text: str, path: KeyPath, value: Scalar) -> str:
    node = yaml.compose(text, Loader=Loader)
    for depth, key in enumerate(path):
        if isinstance(node, yaml.SequenceNode):
            child = node.value[int(key)]
        elif isinstance(node, yaml.MappingNode):
            child = next((value for name, value in node.value if name.value == key), None)
            if child is None:
                return _with_entry(text, node, path[depth:], value)
        if isinstance(child, yaml.ScalarNode):
            # The value, or an empty one that becomes the mapping around it.
            rest = path[depth + 1 :]
            return _replaced(text, child, f"{{{_in_braces(rest, value)}}}" if rest else written(value))
        node = child
    return text


def _replaced(text: str, node: yaml.ScalarNode, new: str) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    if node.style in ("|", ">"):
        # A block ends behind its last line, and may have a comment on its first.
        end = start + len(text[start:end].rstrip())
        comment = re.match(r"[^\s]*([ \t]+#[^\r\n]*)", text[start:end])
        new += comment[1] if comment else ""
    space = "" if text[start - 1 : start].isspace() or start < end else " "
    return text[:start] + space + new + text[end:]


def _with_entry(text: str, mapping: yaml.MappingNode, path: KeyPath, value: Scalar) -> str:
    """A new key behind the last one of the mapping, with its value or the mappings around that, in the same style."""
    last = mapping.value[-1][1] if mapping.value else None
    if mapping.flow_style:
        at = _end(last) if last else mapping.start_mark.index + 1
        return text[:at] + (", " if last else "") + _in_braces(path, value) + text[at:]
    indent = mapping.start_mark.column
    in_braces = len(path) > 1 and isinstance(last, yaml.MappingNode) and last.flow_style
    lines = [" " * indent + _in_braces(path, value)] if in_braces else _lines(path, value, indent)
    return _with_lines(text, _end(mapping), lines)


def _in_braces(path: KeyPath, value: Scalar) -> str:
    """key: {key: value}"""
    *around, last = (written(str(key)) for key in path)
    return "".join(f"{key}: {{" for key in around) + f"{last}: {written(value)}" + "}" * len(around)


def _lines(path: KeyPath, value: Scalar, indent: int) -> list[str]:
    *around, last = (written(str(key)) for key in path)
    keys = [*(f"{key}:" for key in around), f"{last}: {written(value)}"]
    return [" " * (indent + _INDENT * depth) + key for depth, key in enumerate(keys)]


def _with_lines(text: str, at: int, lines: list[str]) -> str:
    """With the lines below the one that ends at or behind `at`."""
    first_end = _LINE_END.search(text)
    line_end = first_end.group() if first_end else "\n"
    if text[at - 1] in "\r\n":
        below = at
    elif found := _LINE_END.search(text, at):
        below = found.end()
    else:
        return line_end.join([text, *lines])
    return text[:below] + "".join(line + line_end for line in lines) + text[below:]


def _end(node: yaml.Node) -> int:
    """Where its last value ends. A mapping or list without brackets ends later: behind the comments below it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    end: int = node.end_mark.index
    return end
