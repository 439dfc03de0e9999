"""An edit changes one value, or adds one; every other character of the file stays, comments above all."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.model.files import FULL, read

from haplane.model.cluster import KeyPath, Value
from haplane.model.editing import Scalar, edited, written
from haplane.model.errors import InvalidFile, UsageError
from haplane.model.reading import read_document

COMMENTED = """\
# The cluster of the shop.
name: prod   # never rename
kubernetes: {version: 1.35.4}

endpoint:
  vip: 192.0.2.100/24   # reserved in IPAM
  # port: 8443

# From left to right in the rack.
machines:
  cp1: {address: 192.0.2.11}   # the old one
  cp2:
    address: 192.0.2.12
    roles:
      - control-plane
      - client
    # zone: rack-b
  # cp3 comes in spring

# Below the machines.
ssh:   # nothing yet
"""


def root(text: str) -> dict[str, Value]:
    return read_document(text, file="cluster.yaml").root


@pytest.mark.parametrize(
    ("path", "value", "line", "instead"),
    [
        (("name",), "shop", "name: prod   # never rename", "name: shop   # never rename"),
        (("endpoint", "vip"), "192.0.2.9/24", "  vip: 192.0.2.100/24   # res", "  vip: 192.0.2.9/24   # res"),
        (("endpoint", "virtual_router_id"), 51, "  # port: 8443\n", "  virtual_router_id: 51\n  # port: 8443\n"),
        (("machines", "cp1", "zone"), "a", "{address: 192.0.2.11}", "{address: 192.0.2.11, zone: a}"),
        (("machines", "cp2", "zone"), "010", "    # zone: rack-b\n", '    zone: "010"\n    # zone: rack-b\n'),
        (("machines", "cp2", "roles", 1), "etcd", "      - client", "      - etcd"),
        (
            ("machines", "cp3", "address"),
            "192.0.2.13",
            "    # zone: rack-b\n",
            "  cp3:\n    address: 192.0.2.13\n    # zone: rack-b\n",
        ),
        (
            ("accept", "topo-zone-collapsed"),
            "one room: all we have",
            "ssh:   # nothing yet\n",
            'ssh:   # nothing yet\naccept:\n  topo-zone-collapsed: "one room: all we have"\n',
        ),
        (("ssh", "port"), 2222, "ssh:   # nothing yet", "ssh: {port: 2222}   # nothing yet"),
        (("ssh",), "x", "ssh:   # nothing yet", "ssh: x   # nothing yet"),
    ],
)
def test_only_the_line_of_the_value_changes(path: KeyPath, value: Scalar, line: str, instead: str) -> None:
    assert edited(COMMENTED, {path: value}) == COMMENTED.replace(line, instead)


@pytest.mark.parametrize(
    ("text", "path", "instead"),
    [
        ("{}", ("a",), "{a: 1}"),
        ("{b: 2}", ("a",), "{b: 2, a: 1}"),
        ("{b: 2,}", ("a",), "{b: 2, a: 1,}"),
        ("{b: }", ("a",), "{b: , a: 1}"),
        ("{\n  b: 2,   # two\n  c: 3   # three\n}\n", ("a",), "{\n  b: 2,   # two\n  c: 3, a: 1   # three\n}\n"),
        ("{b: {c: 2}}", ("b", "a"), "{b: {c: 2, a: 1}}"),
        ("{b: 2}", ("c", "d", "a"), "{b: 2, c: {d: {a: 1}}}"),
        ("b: 2", ("a",), "b: 2\na: 1"),
        ("b: 2\r\n# c\r\n", ("a",), "b: 2\r\na: 1\r\n# c\r\n"),
        ("b:\n  x: {c: 2}\n", ("b", "z", "a"), "b:\n  x: {c: 2}\n  z: {a: 1}\n"),
        ("b:\n- c: 2\n  d: 3\n", ("b", 0, "a"), "b:\n- c: 2\n  d: 3\n  a: 1\n"),
        ("b: |\n  text\n\n# c\nd: 2\n", ("b",), "b: 1\n\n# c\nd: 2\n"),
        ("b: >-   # folded\n  text\n  more\nd: 2\n", ("b",), "b: 1   # folded\nd: 2\n"),
        ("b: 2\nc: |\n  text\n", ("a",), "b: 2\nc: |\n  text\na: 1\n"),
        ("b:\n  c: |+\n    text\n\n# d\n", ("b", "a"), "b:\n  c: |+\n    text\n\n  a: 1\n# d\n"),
        ("b: 'x'  # y\n", ("b",), "b: 1  # y\n"),
        ("b: long\n  text\nc: 2\n", ("b",), "b: 1\nc: 2\n"),
        ("--- # one\nb: 2\n...\n# end\n", ("a",), "--- # one\nb: 2\na: 1\n...\n# end\n"),
        ("\ufeffb: 2\n", ("a",), "\ufeffb: 2\na: 1\n"),
        ("é: ü\n", ("a",), "é: ü\na: 1\n"),
        ("? b\n: 2\n", ("a",), "? b\n: 2\na: 1\n"),
    ],
)
def test_each_style_of_yaml_is_kept(text: str, path: KeyPath, instead: str) -> None:
    assert edited(text, {path: 1}) == instead


def test_several_changes_are_made_in_their_order() -> None:
    changes: dict[KeyPath, Scalar] = {
        ("machines", "cp3", "address"): "192.0.2.13",
        ("machines", "cp3", "zone"): "rack-c",
        ("endpoint", "vip"): "192.0.2.101/24",
    }
    text = edited(COMMENTED.replace("ssh:   # nothing yet\n", ""), changes)
    cluster = read(text)
    assert str(cluster.machines["cp3"].address) == "192.0.2.13"
    assert (cluster.machines["cp3"].zone, str(cluster.endpoint.vip)) == ("rack-c", "192.0.2.101/24")


def test_nothing_changes_without_changes() -> None:
    assert edited(FULL, {}) == FULL


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (("name", "first"), "name has no first"),
        (("machines",), "machines holds more than one value"),
        (("machines", "cp2", "roles", 2), "machines.cp2.roles has no [2]"),
        (("machines", "cp2", "roles", "x"), "machines.cp2.roles has no x"),
        (("machines", 0), "machines has no [0]"),
    ],
)
def test_a_change_that_does_not_fit_the_file_is_refused_with_the_place(path: KeyPath, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        edited(COMMENTED, {path: 1})
    assert why in caught.value.why


@pytest.mark.parametrize("text", ["a: [b: 1]", "a: |\n  x"])
def test_a_file_that_cannot_be_changed_safely_is_left_alone(text: str) -> None:
    path: KeyPath = ("a", 0, "c") if "[" in text else ("c",)
    with pytest.raises(UsageError, match="cannot be changed"):
        edited(text, {path: 1})


@pytest.mark.parametrize("text", ["", "a: &x 1\n", "a: 1\na: 2\n", "a: [\n"])
def test_a_file_that_cannot_be_read_is_not_changed(text: str) -> None:
    with pytest.raises(InvalidFile):
        edited(text, {("b",): 1})


# No YAML reader takes it (YAML 1.2, 5.1).
_NO_TEXT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@given(
    st.text()
    | st.sampled_from(["-", "?", "- a", "a: b", "~", "1e3", ".5", "a #b"])
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
)
def test_a_written_value_is_read_as_itself_in_every_place(value: Scalar) -> None:
    if isinstance(value, str) and _NO_TEXT.search(value):
        return
    for text in (f"a: {written(value)}\n", f"{{a: {written(value)}}}", f"a:\n  - {written(value)}   # c\n"):
        found = read_document(text, file="")
        got = found.value("a", 0) if isinstance(found.value("a"), list) else found.value("a")
        assert (got, type(got), found.problems) == (value, type(value), ())


# ---- a law: exactly the change, and nothing else ----


@dataclass(frozen=True)
class _Written:
    text: str
    comments: tuple[str, ...]


_KEYS = st.sampled_from(["a", "b2", "c-d", "on", "é", "10", "e f"])
_PLAIN = st.sampled_from(["1", "x", "true", "", "192.0.2.1/24", "1.5", "'a # b'", '"q\\n"', "a b", "'::1'", "~"])
_TREES = st.recursive(
    _PLAIN,
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(_KEYS, inner, min_size=1, max_size=3),
    max_leaves=8,
)
_BLOCKS = st.sampled_from(["|", ">-", "|+"])


@st.composite
def _files(draw: st.DrawFn) -> _Written:
    """A mapping in any mixture of styles, with comments and empty lines wherever they may be."""
    comments: list[str] = []

    def comment() -> str:
        comments.append(f"# comment {len(comments)}: {{[")
        return comments[-1]

    def end_of_line() -> str:
        return f"   {comment()}\n" if draw(st.booleans()) else "\n"

    def between(indent: int, *, is_after_text: bool) -> str:
        kind = draw(st.sampled_from(["", "", "\n", "comment"]))
        # Deeper it would be one more line of that text.
        depths = [0, indent] if is_after_text else [0, indent, indent + 2]
        return kind if kind != "comment" else " " * draw(st.sampled_from(depths)) + comment() + "\n"

    def flow(tree: object) -> str:
        if isinstance(tree, dict):
            return "{" + ", ".join(f"{key}: {flow(value)}" for key, value in tree.items()) + "}"
        if isinstance(tree, list):
            return "[" + ", ".join(flow(value) or "~" for value in tree) + "]"
        return str(tree)

    def block(tree: object, indent: int) -> str:
        entries = tree.items() if isinstance(tree, dict) else ((None, value) for value in tree)
        text = ""
        for key, value in entries:
            text += (
                between(indent, is_after_text=text.endswith(" more\n"))
                + " " * indent
                + (f"{key}:" if key is not None else "-")
            )
            if isinstance(value, dict | list) and draw(st.booleans()):
                text += end_of_line() + block(value, indent + draw(st.sampled_from([1, 2, 4])))
            elif value == "a b" and draw(st.booleans()):
                text += f" {draw(_BLOCKS)}\n{' ' * (indent + 2)}some # text\n{' ' * (indent + 2)}more\n"
            else:
                text += f" {flow(value)}".rstrip() + end_of_line()
        return text

    tree = draw(st.dictionaries(_KEYS, _TREES, min_size=1, max_size=4))
    text = flow(tree) + "\n" if draw(st.integers(0, 5)) == 0 else block(tree, 0)
    return _Written(text + draw(st.sampled_from(["", "# the end\n"])), tuple(comments))


def _paths(value: object, path: KeyPath = ()) -> list[KeyPath]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, child in children for found in _paths(child, (*path, key)))]


def _at(value: Value, path: KeyPath) -> Value:
    for key in path:
        value = value[key]
    return value


def _set(tree: object, path: KeyPath, value: Scalar) -> None:
    """In place; an empty value on the way becomes a mapping."""
    key, *rest = path
    assert isinstance(tree, dict | list)
    if not rest:
        tree[key] = value
        return
    below = tree[key] if isinstance(tree, list) else tree.get(key)
    if below is None:
        below = tree[key] = {}
    _set(below, tuple(rest), value)


def _common(one: str, other: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@settings(max_examples=150)
@given(st.data())
def test_the_reader_sees_exactly_the_change_and_all_else_stays(data: st.DataObject) -> None:
    file = data.draw(_files())
    before = read_document(file.text, file="")
    assert not before.problems
    value = data.draw(st.sampled_from([1, True, None, "x", "on", "a: b", "{", "- 1", "#", "'", 2.5, "1.30"]))
    path = data.draw(st.sampled_from(_paths(before.root)))
    found = _at(before.root, path)
    if isinstance(found, dict) or (found is None and data.draw(st.booleans())):
        path = (*path, *data.draw(st.sampled_from([("new",), ("new", "below"), ("new", "on", "1")])))
    elif isinstance(found, list):
        return
    after = edited(file.text, {path: value}, file="")
    expected = copy.deepcopy(before.root)
    _set(expected, path, value)
    assert repr(root(after)) == repr(expected)
    # One run of characters differs, and it is no longer than the value that was there.
    start = _common(file.text, after)
    end = _common(file.text[start:][::-1], after[start:][::-1])
    old = file.text[start : len(file.text) - end]
    if path in before.places and not isinstance(found, dict):
        assert "\n" not in old.rstrip("\n") or "some # text" in old
    else:
        assert old.strip() in ("", "~"), "an empty value may become a mapping"
    assert all(comment in after for comment in file.comments)
