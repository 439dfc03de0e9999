"""YAML text to plain values, each with its place in the file.

Strict: whatever two YAML readers could understand differently (yes, 010, merge keys, tags) is refused. Knows nothing
of clusters.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import yaml

from haplane.model.cluster import KeyPath, Value
from haplane.model.errors import InvalidFile, Problem

# A thousand machines with all their keys fit, and the worst file is refused in well under a second.
MAX_CHARACTERS = 1 << 20
MAX_NODES = 40_000
MAX_DEPTH = 64
# More errors than anybody reads at once.
MAX_PROBLEMS = 100

# libyaml is twenty times faster; where PyYAML was built without it the same events come from Python.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# What YAML 1.2 calls printable (chapter 5.1), and so what its readers accept.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# %YAML and %TAG; a line inside a mapping is indented, so no value begins like this.
_DIRECTIVE = re.compile(r"^%", re.MULTILINE)

# YAML 1.2.2, 10.3.2 (core schema), without its octal, hexadecimal and not-finite numbers.
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}

# Plain scalars that YAML 1.1 (which kubeadm and most tools still read) and YAML 1.2 take for different things.
_SWITCH = re.compile(r"on|off|yes|no|y|n", re.IGNORECASE)
_ODD_NUMBER = re.compile(
    r"[-+]?(0[0-9_]+|0o[0-7]+|0x[0-9a-fA-F_]+|0b[01_]+"  # 010, 0o10, 0x10, 0b10
    r"|[0-9]+_[0-9_]*(\.[0-9_]*)?"  # 1_000
    r"|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"  # 190:20 is 11420 to YAML 1.1, by sixties
    r"|\.(inf|Inf|INF))|\.(nan|NaN|NAN)"
)

_MORE = "mend those above first; the others are shown then"
# As YAML 1.1 counts lines, and its scanners do.
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")

_ALIGN = "indent the keys of one mapping alike"

# The scanner's words (libyaml's and PyYAML's own), what they mean to a person, and how to go on.
_SENTENCES = (
    ("mapping values are not allowed", "a colon where no key can be", f"{_ALIGN}; put text with a colon in quotes"),
    ("found unexpected end of stream", "a quotation mark is never closed", "close it"),
    ("found unexpected document", "a quotation mark is never closed", "close it"),
    ("could not find expected ':'", "a key without a colon", "write key: value"),
    ("expected ',' or ']'", "a list in brackets goes on wrongly or is never closed", "use commas, and ] at its end"),
    ("expected ',' or '}'", "a mapping in braces goes on wrongly or is never closed", "use commas, and } at its end"),
    ("node content", "a value is missing, or a bracket is never closed", "write the value, or put the text in quotes"),
    ("expected <block end>", "this does not fit the lines above it", _ALIGN),
    ("<document start>", "this does not fit the lines above it", _ALIGN),
    ("did not find expected key", "this does not fit the lines above it", _ALIGN),
    ("expected '-' indicator", "this does not fit the list above it", "begin each value of the list with -"),
    ("sequence entries are not allowed", "a list cannot begin here", "begin it on a line of its own"),
    ("escape", "a backslash that means nothing in double quotes", "write two backslashes, or use single quotes"),
)
# Of these the scanner marks where it gave up; where it began helps more.
_MARKED_LATE = ("found unexpected end of stream", "found unexpected document", "could not find expected ':'")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is, and its key (the value itself when it has none); all count from 1. text: as written."""

    line: int
    column: int
    key_line: int
    key_column: int
    text: str


@dataclass(frozen=True)
class Document:
    """What was read. problems: what was refused so far; refused: where, so that nobody complains about it twice."""

    file: str
    root: dict[str, Value]
    places: Mapping[KeyPath, Place]
    problems: tuple[Problem, ...]
    refused: frozenset[KeyPath]

    def known(self, path: KeyPath) -> KeyPath:
        """The path, or the nearest one around it that is in the file."""
        while path not in self.places:
            path = path[:-1]
        return path

    def at_value(self, path: KeyPath, what: str, *, expected: str = "", fix: str = "") -> Problem:
        place = self.places[self.known(path)]
        return Problem(self.file, place.line, place.column, dotted(path), what, expected, fix)

    def at_key(self, path: KeyPath, what: str, *, expected: str = "", fix: str = "") -> Problem:
        place = self.places[self.known(path)]
        return Problem(self.file, place.key_line, place.key_column, dotted(path), what, expected, fix)

    def is_given(self, *path: str | int) -> bool:
        """Also when what is around it is no mapping, so that it may have been meant."""
        return path in self.places or (len(path) > 1 and not isinstance(self.value(*path[:-1]), dict | None))

    def value(self, *path: str | int) -> Value:
        """None when it is not there."""
        found: Value = self.root
        for part in path:
            if isinstance(found, dict) and isinstance(part, str):
                found = found.get(part)
            elif isinstance(found, list) and isinstance(part, int) and part < len(found):
                found = found[part]
            else:
                return None
        return found


def read_document(text: str, *, file: str) -> Document:
    """Values of a YAML document whose top is a mapping.

    Raises InvalidFile when nothing can be read. What can be read around comes as `problems` of the document.
    """
    if problem := _unreadable(text, file):
        raise InvalidFile(file, [problem])
    return _Reader(file, text).document()


def shown(text: str) -> str:
    """Text from a file on one short line, without what a terminal would obey."""
    text = text if len(text) <= 60 else text[:57] + "..."
    return text if text.isprintable() else json.dumps(text)[1:-1]


def first_of(problems: Iterable[Problem]) -> list[Problem]:
    """In the order of the file, as many as one reads at once; where others are left out, that is said."""
    ordered = sorted(problems)
    shown_now, left_out = ordered[:MAX_PROBLEMS], ordered[MAX_PROBLEMS:]
    more = [replace(one, key="", what="there are more errors", expected="", fix=_MORE) for one in left_out[:1]]
    return shown_now + more


def dotted(path: KeyPath) -> str:
    """machines.cp1.roles[0]"""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in path)
    return text.removeprefix(".")


def _unreadable(text: str, file: str) -> Problem | None:
    if len(text) > MAX_CHARACTERS:
        return Problem(file, 1, 1, "", f"the file has {len(text)} characters", f"at most {MAX_CHARACTERS}")
    if found := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - text.rfind("\n", 0, found.start())
        code = ord(found.group())
        # A surrogate stands for a byte that is not UTF-8, when the file was decoded with surrogateescape.
        what = f"byte 0x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"character U+{code:04X}"
        return Problem(
            file, line, column, "", f"{what} is not text", "UTF-8 text", "remove it, or is this another file?"
        )
    if found := _DIRECTIVE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        return Problem(file, line, 1, "", "a directive (%)", "keys and values", "remove it; put text with % in quotes")
    return None


class _Unreadable(Exception):
    """Reading cannot go on; the problem is already noted."""


class _Reader:
    """One pass over the parser's events. Problems that can be stepped over are collected."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        self.places: dict[KeyPath, Place] = {}
        self.problems: list[Problem] = []
        self.refused: set[KeyPath] = set()
        self.events = self._bounded(yaml.parse(text, Loader=Loader))

    def document(self) -> Document:
        try:
            root = self._document()
        except yaml.MarkedYAMLError as error:
            self.problems.append(self._syntax(error))
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            # PyYAML's own scanner lets chr() fail on escapes that are out of range.
            self.problems.append(Problem(self.file, 1, 1, "", f"this is not YAML: {shown(str(error))}"))
        except _Unreadable:
            pass
        else:
            return Document(self.file, root, self.places, tuple(self.problems), frozenset(self.refused))
        # The last one is why reading stopped.
        raise InvalidFile(self.file, [*first_of(self.problems[:-1]), self.problems[-1]]) from None

    def _document(self) -> dict[str, Value]:
        next(self.events)  # StreamStart
        if isinstance(next(self.events), yaml.StreamEndEvent):
            raise self._stop(None, "the file is empty", "keys and values", "begin with name: and machines:")
        top = next(self.events)
        root = self._node(top, (), top)
        if root is None and not self.problems:
            raise self._stop(None, "the file is empty", "keys and values", "begin with name: and machines:")
        next(self.events)  # DocumentEnd
        after = next(self.events)
        if isinstance(after, yaml.DocumentStartEvent):
            self._note(after, (), "a second document begins here", "one document", "put it in a file of its own")
        if not isinstance(root, dict):
            raise self._stop(top, f"the file is {_kind(top)}", "a mapping of keys to values", "begin with name: prod")
        return root

    def _node(self, event: yaml.Event, path: KeyPath, key: yaml.Event) -> Value:
        self.places[path] = Place(*_position(event), *_position(key), _written(event))
        self._plain_only(event, path)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(path)
        return self._scalar(event, path) if isinstance(event, yaml.ScalarEvent) else None

    def _mapping(self, path: KeyPath) -> Value:
        result: dict[str, Value] = {}
        while not isinstance(key := next(self.events), yaml.MappingEndEvent):
            name = self._key(key, path)
            value = next(self.events)
            if name is None:
                self._skip(value)
            elif name in result:
                first = self.places[(*path, name)].key_line
                what = f"this key was already given in line {first}"
                self._note(key, (*path, name), what, "each key once", "remove one or rename it")
                self._skip(value)
            else:
                result[name] = self._node(value, (*path, name), key)
        return result

    def _list(self, path: KeyPath) -> Value:
        result: list[Value] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            result.append(self._node(event, (*path, len(result)), event))
        return result

    def _key(self, event: yaml.Event, path: KeyPath) -> str | None:
        """Keys are text as written: power has one called on. None when this cannot be one."""
        if not isinstance(event, yaml.ScalarEvent):
            self._note(event, path, f"{_kind(event)} as a key", "text", "write the key as text")
            self._skip(event)
            return None
        self._plain_only(event, path)
        if event.value == "<<" and not event.style:
            self._refuse(event, (*path, "<<"), "a merge key", "the keys themselves", "write it out")
            return None
        if not event.value:
            self._note(event, path, "a value without a key", "key: value", "write the key before the colon")
            return None
        return str(event.value)

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath) -> Value:
        text = str(event.value)
        if event.style:  # in quotes, or a block
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _SWITCH.fullmatch(text):
            meant = "true" if text.lower() in ("on", "yes", "y") else "false"
            what = f"{text} is {meant} to some YAML readers and text to others"
            self._refuse(
                event, path, what, "true, false, or text in quotes", f'write {meant}, or "{text}" if it is text'
            )
        elif _ODD_NUMBER.fullmatch(text):
            what = f"{shown(text)} is not the same number, or no number, to different YAML readers"
            fix = f'write it as a decimal number, or "{shown(text)}" if it is text'
            self._refuse(event, path, what, "a decimal number, or text in quotes", fix)
        elif _INT.fullmatch(text) or _FLOAT.fullmatch(text):
            return self._number(event, path)
        return text

    def _number(self, event: yaml.ScalarEvent, path: KeyPath) -> Value:
        text = str(event.value)
        # 20 digits are more than 64 bits; int() itself refuses some thousands with a ValueError.
        number = int(text) if _INT.fullmatch(text) and len(text) <= 20 else float(text)
        if isinstance(number, int) or (math.isfinite(number) and not _INT.fullmatch(text)):
            return number
        fix = f'write "{shown(text)}" if it is text'
        self._refuse(event, path, f"{shown(text)} is too large a number", "a number of at most 64 bits", fix)
        return text

    def _plain_only(self, event: yaml.Event, path: KeyPath) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, path, f"an alias (*{shown(str(event.anchor))})", "the value itself", "write it out")
            return
        if anchor := getattr(event, "anchor", None):
            self._note(event, path, f"an anchor (&{shown(anchor)})", "plain values", "write it out")
        if tag := getattr(event, "tag", None):
            self._refuse(event, path, f"a tag ({shown(tag)})", "plain values", "remove it; put text in quotes")
        if isinstance(event, yaml.ScalarEvent) and _UNPRINTABLE.search(event.value):
            self._refuse(event, path, "an escape for a character that is not text", "printable text", "remove it")

    def _skip(self, event: yaml.Event) -> None:
        """The rest of a node that is not kept."""
        depth = 0
        while True:
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth <= 0:
                return
            event = next(self.events)

    def _bounded(self, events: Iterable[yaml.Event]) -> Iterator[yaml.Event]:
        """Events as long as they make a tree of sensible size, so that neither time nor stack can run out."""
        depth = nodes = 0
        for event in events:
            nodes += isinstance(event, yaml.NodeEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise self._stop(event, f"more than {MAX_DEPTH} levels inside one another", "fewer levels")
            if nodes > MAX_NODES:
                raise self._stop(event, f"more than {MAX_NODES} keys and values", "fewer keys and values")
            yield event

    def _note(self, event: yaml.Event, path: KeyPath, what: str, expected: str, fix: str) -> None:
        self.problems.append(Problem(self.file, *_position(event), dotted(path), what, expected, fix))

    def _refuse(self, event: yaml.Event, path: KeyPath, what: str, expected: str, fix: str) -> None:
        """Note it, and that the value at this path is not what the user meant."""
        self._note(event, path, what, expected, fix)
        self.refused.add(path)

    def _stop(self, event: yaml.Event | None, what: str, expected: str, fix: str = "") -> _Unreadable:
        self.problems.append(Problem(self.file, *(_position(event) if event else (1, 1)), "", what, expected, fix))
        return _Unreadable()

    def _syntax(self, error: yaml.MarkedYAMLError) -> Problem:
        said = error.problem or ""
        mark = error.context_mark if said.startswith(_MARKED_LATE) else error.problem_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        lines = re.split(_LINE_END, self.text)
        if line >= len(lines):
            # The scanner puts the end of a file without a last line end on a line of its own.
            line, column = len(lines) - 1, len(lines[-1])
        character = lines[line][column : column + 1]
        if character == "\t":
            what, fix = "a tab where YAML has spaces", "indent with spaces"
        elif "cannot start any token" in said:
            what, fix = f"a value cannot begin with {character}", "put the text in quotes"
        else:
            unknown = (f"this is not YAML: {shown(said)}", "")
            what, fix = next(((what, fix) for words, what, fix in _SENTENCES if words in said), unknown)
        return Problem(self.file, line + 1, column + 1, "", what, "", fix)


def _position(event: yaml.Event) -> tuple[int, int]:
    """Line and column from 1."""
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _kind(event: yaml.Event) -> str:
    if isinstance(event, yaml.MappingStartEvent):
        return "a mapping"
    if isinstance(event, yaml.SequenceStartEvent):
        return "a list"
    return "an alias" if isinstance(event, yaml.AliasEvent) else "text"


def _written(event: yaml.Event) -> str:
    """The value as the user sees it, on one line."""
    if not isinstance(event, yaml.ScalarEvent):
        return _kind(event)
    quote = event.style if event.style in ("'", '"') else ""
    return quote + shown(event.value) + quote if event.value or quote else "an empty value"
