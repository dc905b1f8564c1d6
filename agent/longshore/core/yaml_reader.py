"""Reads YAML into values that know where they came from.

Built from PyYAML's events, not from its composer: that one recurses (a file of ten thousand `[`
crashes the interpreter in the C parser), copies merged keys without a limit, and takes the last of
two equal keys. Compose refuses equal keys, too.
"""

from __future__ import annotations

from typing import Any

import yaml
from msgspec import Struct
from yaml.resolver import Resolver

from longshore.core.yaml_nodes import Mapping, Node, Scalar, Sequence, Value, join_key
from longshore.errors import UsageError

MAX_BYTES = 1024 * 1024
MAX_NODES = 100_000
"""Most values of a file, those that an alias stands for counted every time."""
MAX_DEPTH = 100

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Any = Resolver()
_KINDS = {
    "tag:yaml.org,2002:bool": "boolean",
    "tag:yaml.org,2002:null": "null",
    "tag:yaml.org,2002:merge": "merge",
    "!reset": "null",  # Compose's way to take a key out of a file that it overrides
}


def parse_yaml(data: str | bytes, *, path: str) -> Value:
    """Read one YAML document of at most 1 MiB.

    Raises:
        UsageError: it is not UTF-8, not YAML, more than one document, too large, nests too deep,
            holds a key twice, or aliases blow it up; the message names the line.
    """
    text = _decode(data, path)
    builder = _Builder(path)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(str(error.problem or error.context or "cannot be read").split())
        raise UsageError(f"{path}:{mark.line + 1 if mark else 1}: not YAML: {problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, _offset(error, text)) + 1
        raise UsageError(f"{path}:{line}: not YAML: {error.reason}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    root = builder.root or Scalar(1, "", "null")
    return Value(path, "", root.line, root)


def _decode(data: str | bytes, path: str) -> str:
    try:
        raw = data.encode() if isinstance(data, str) else data
        if len(raw) > MAX_BYTES:
            raise UsageError(f"{path}: is larger than {MAX_BYTES // 1024} KiB")
        return raw.decode().removeprefix("\ufeff")
    except UnicodeError:
        raise UsageError(f"{path}: is not UTF-8") from None


def _offset(error: yaml.reader.ReaderError, text: str) -> int:
    """Find where a character stands that YAML does not allow; libyaml counts bytes."""
    position = int(error.position or 0)
    if _LOADER is yaml.SafeLoader:
        return position
    return len(text.encode()[:position].decode(errors="ignore"))


class _Open(Struct):
    """A list or mapping whose end has not come yet."""

    node: Sequence | Mapping
    key: str
    anchor: str | None
    pending: tuple[int, str, bool] | None = None
    """Of a mapping: line and text of the key whose value comes next; is it an unquoted `<<`?"""
    merge: tuple[int, Node] | None = None


class _Builder:
    """Makes nodes of events, one at a time, without recursion."""

    __slots__ = ("_anchors", "_documents", "_open", "_path", "_spent", "root")

    def __init__(self, path: str) -> None:
        self.root: Node | None = None
        self._path = path
        self._open: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}
        self._documents = 0
        self._spent = 0

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 1
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise self._error(line, "expected one document, but `---` begins another")
            case yaml.AliasEvent():
                self._alias(line, str(event.anchor))
            case yaml.ScalarEvent():
                node = Scalar(line, event.value, _kind(event))
                self._spend(line, 1)
                if event.anchor:
                    self._anchors[event.anchor] = node
                self._attach(line, node)
            case yaml.SequenceStartEvent():
                self._begin(line, Sequence(line), event.anchor)
            case yaml.MappingStartEvent():
                self._begin(line, Mapping(line), event.anchor)
            case yaml.CollectionEndEvent():
                closed = self._open.pop()
                if closed.merge:
                    self._merge(closed, *closed.merge)
                if closed.anchor:
                    self._anchors[closed.anchor] = closed.node
                self._attach(closed.node.line, closed.node)

    def _alias(self, line: int, anchor: str) -> None:
        if anchor not in self._anchors:
            raise self._error(line, f"the alias *{anchor[:80]} has no anchor before it")
        node = self._anchors[anchor]
        if node is None:
            raise self._error(line, f"the alias *{anchor[:80]} stands inside what it names")
        self._spend(line, node.weight)
        self._attach(line, node)

    def _begin(self, line: int, node: Sequence | Mapping, anchor: str | None) -> None:
        self._spend(line, 1)
        if len(self._open) >= MAX_DEPTH:
            raise self._error(line, f"is nested more than {MAX_DEPTH} deep")
        if anchor:
            self._anchors[anchor] = None
        self._open.append(_Open(node, self._here(), anchor))

    def _attach(self, line: int, node: Node) -> None:
        """Put a finished node where the next one belongs."""
        if not self._open:
            self.root = node
            return
        frame = self._open[-1]
        parent = frame.node
        if isinstance(parent, Sequence):
            parent.items.append((line, node))
        elif frame.pending is None:
            self._take_key(line, frame, parent, node)
            return
        else:
            key_line, name, is_merge = frame.pending
            frame.pending = None
            if is_merge:
                frame.merge = key_line, node
            else:
                parent.entries[name] = key_line, node
        parent.weight += node.weight

    def _take_key(self, line: int, frame: _Open, parent: Mapping, node: Node) -> None:
        if not isinstance(node, Scalar):
            raise self._error(line, "a key has to be text, not a list or a mapping")
        is_merge = node.kind == "merge"
        frame.pending = line, node.text, is_merge
        first = frame.merge if is_merge else parent.entries.get(node.text)
        if first:
            raise self._error(line, f"is given twice, first on line {first[0]}")

    def _merge(self, frame: _Open, line: int, merged: Node) -> None:
        """Add what `<<` names; own keys count before merged ones, earlier ones before later."""
        parent = frame.node
        assert isinstance(parent, Mapping)
        sources = [node for _, node in merged.items] if isinstance(merged, Sequence) else [merged]
        for source in sources:
            if not isinstance(source, Mapping):
                problem = f"{join_key(frame.key, '<<')}: expected a mapping, or a list of them"
                raise UsageError(f"{self._path}:{line}: {problem}")
            for name, entry in source.entries.items():
                parent.entries.setdefault(name, entry)

    def _spend(self, line: int, weight: int) -> None:
        self._spent += weight
        if self._spent > MAX_NODES:
            raise self._error(
                line, f"the file holds more than {MAX_NODES} values, behind aliases included"
            )

    def _here(self) -> str:
        """Return the key of the value that comes next."""
        if not self._open:
            return ""
        frame = self._open[-1]
        if isinstance(frame.node, Sequence):
            return f"{frame.key}[{len(frame.node.items)}]"
        return join_key(frame.key, frame.pending[1]) if frame.pending else frame.key

    def _error(self, line: int, problem: str) -> UsageError:
        key = self._here()
        return UsageError(f"{self._path}:{line}: {key}{': ' if key else ''}{problem}")


def _kind(event: yaml.ScalarEvent) -> str:
    tag = event.tag
    if tag is None or tag == "!":
        tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit)
    return _KINDS.get(tag, "text")
