"""Values of a YAML file that know the file, the line and the key that they came from.

Nothing is constructed from tags: values stay text until they are asked for.
"""

from __future__ import annotations

import re

from msgspec import Struct, field

from longshore.errors import UsageError

_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_PLAIN_KEY = re.compile(r"[\w/.<-]+")


class Scalar(Struct, frozen=True):
    """A single value: its text as written, and whether YAML takes it for a word of its own."""

    line: int
    text: str
    kind: str
    """`text` (numbers and dates, too), `boolean`, `null` or `merge` (an unquoted `<<`)."""
    weight: int = 1


class Sequence(Struct):
    """A list."""

    line: int
    items: list[tuple[int, Node]] = field(default_factory=list)
    """Of each: its line and itself."""
    weight: int = 1


class Mapping(Struct):
    """A mapping; merged keys (`<<`) are already in it."""

    line: int
    entries: dict[str, tuple[int, Node]] = field(default_factory=dict)
    """By key: the line of the key, and the value."""
    weight: int = 1


Node = Scalar | Sequence | Mapping


class Value(Struct, frozen=True):
    """A node, with the place that errors name."""

    path: str
    key: str
    line: int
    node: Node

    def error(self, problem: str) -> UsageError:
        """Make an error that names file, line and key."""
        return UsageError(f"{self.path}:{self.line}: {self.key}{': ' if self.key else ''}{problem}")

    @property
    def is_null(self) -> bool:
        """Tell whether the value is left out (`key:`), which Compose takes for no key."""
        return isinstance(self.node, Scalar) and self.node.kind == "null"

    @property
    def is_mapping(self) -> bool:
        """Tell whether the value has keys."""
        return isinstance(self.node, Mapping)

    def entries(self, expected: str = "a mapping") -> dict[str, Value]:
        """Return the values of a mapping by key, in the order of the file; nulls included."""
        if not isinstance(self.node, Mapping):
            raise self._expected(expected)
        return {
            name: Value(self.path, join_key(self.key, name), line, node)
            for name, (line, node) in self.node.entries.items()
        }

    def get(self, name: str) -> Value | None:
        """Return the value of a key; `None` if it is not there, or null."""
        if not isinstance(self.node, Mapping) or name not in self.node.entries:
            return None
        line, node = self.node.entries[name]
        value = Value(self.path, join_key(self.key, name), line, node)
        return None if value.is_null else value

    def items(self, expected: str = "a list") -> list[Value]:
        """Return the values of a list."""
        if not isinstance(self.node, Sequence):
            raise self._expected(expected)
        return [
            Value(self.path, f"{self.key}[{index}]", line, node)
            for index, (line, node) in enumerate(self.node.items)
        ]

    def text(self, expected: str = "text") -> str:
        """Return a text as written; numbers and dates count as text (`1.10` stays `1.10`)."""
        if not isinstance(self.node, Scalar) or self.node.kind not in ("text", "merge"):
            raise self._expected(expected)
        return self.node.text

    def boolean(self) -> bool:
        """Return a truth value, written as YAML 1.1 allows, in quotes or not."""
        if isinstance(self.node, Scalar):
            value = _BOOLEANS.get(self.node.text.lower())
            if value is not None:
                return value
        raise self._expected("true or false")

    def _expected(self, expected: str) -> UsageError:
        got = {Sequence: "a list", Mapping: "a mapping"}.get(type(self.node), "")
        if isinstance(self.node, Scalar):
            got = "nothing" if self.is_null else repr(self.node.text[:80])
        return self.error(f"expected {expected}, got {got}")


def join_key(prefix: str, name: str) -> str:
    """Name a key below another, as errors show it."""
    shown = name[:80] if _PLAIN_KEY.fullmatch(name) else repr(name[:80])
    return f"{prefix}.{shown}" if prefix else shown
