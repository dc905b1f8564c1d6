"""Variables in Compose files and `.env` files, as Docker Compose v2 reads them.

The rules are those of github.com/compose-spec/compose-go, `template/template.go`, v2.13. Values
that come from variables are not interpolated again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from longshore.errors import UsageError

MAX_DEPTH = 100
"""Most defaults inside defaults. Compose has no limit; nobody writes more than two or three."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-+?]")
_BRACE = re.compile(r"[{}]")


def interpolate(
    text: str,
    environment: Mapping[str, str],
    *,
    on_unset: Callable[[str], None] | None = None,
) -> str:
    """Replace the variables of a text.

    Knows `$NAME`, `${NAME}`, `$$`, and in braces `:-` and `-` (default if unset or empty; if
    unset), `:?` and `?` (error likewise), `:+` and `+` (other text if set and not empty; if
    set), with variables again inside these. A `$` before anything else stands for itself. Only
    the branch that is taken is read: an error in an unused default goes unseen, as in Compose.

    Args:
        on_unset: called with the name of each variable that is unset and has no default, which
            becomes the empty string; Compose warns of it.

    Raises:
        UsageError: a form in braces is none of these, or a required variable is missing.
    """
    return _Interpolation(text, environment, on_unset).between(0, len(text), 0)


class _Interpolation:
    __slots__ = ("_environment", "_on_unset", "_text")

    def __init__(
        self,
        text: str,
        environment: Mapping[str, str],
        on_unset: Callable[[str], None] | None,
    ) -> None:
        self._text = text
        self._environment = environment
        self._on_unset = on_unset

    def between(self, start: int, end: int, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise self._error(start, f"variables are nested more than {MAX_DEPTH} deep")
        text = self._text
        pieces: list[str] = []
        while (dollar := text.find("$", start, end)) >= 0:
            pieces.append(text[start:dollar])
            after = text[dollar + 1 : min(dollar + 2, end)]
            if after == "$":
                pieces.append("$")
                start = dollar + 2
            elif after == "{":
                value, start = self._braced(dollar, end, depth)
                pieces.append(value)
            elif name := _NAME.match(text, dollar + 1, end):
                pieces.append(self._plain(name[0]))
                start = name.end()
            else:
                pieces.append("$")
                start = dollar + 1
        pieces.append(text[start:end])
        return "".join(pieces)

    def _braced(self, dollar: int, end: int, depth: int) -> tuple[str, int]:
        """Read one `${…}`; return its value and the offset behind it."""
        text = self._text
        name = _NAME.match(text, dollar + 2, end)
        if name is None:
            raise self._error(dollar, "expected the name of a variable after `${`")
        if text.startswith("}", name.end(), end):
            return self._plain(name[0]), name.end() + 1
        operator = _OPERATOR.match(text, name.end(), end)
        if operator is None:
            raise self._error(
                dollar, f"expected `}}` or one of :- - :? ? :+ + after `${{{name[0][:80]}`"
            )
        closing = self._closing_brace(dollar, operator.end(), end)
        value = self._choose(dollar, name[0], operator, closing, depth)
        return value, closing + 1

    def _choose(
        self, dollar: int, name: str, operator: re.Match[str], closing: int, depth: int
    ) -> str:
        value = self._environment.get(name)
        counts = bool(value) if operator[0].startswith(":") else value is not None
        kind = operator[0][-1]
        if kind == "+":
            if counts:
                return self.between(operator.end(), closing, depth + 1)
            return value or ""
        if counts:
            return value or ""
        argument = self.between(operator.end(), closing, depth + 1)
        if kind == "-":
            return argument
        told = f": {' '.join(argument.split())[:500]}" if argument.strip() else ""
        raise self._error(dollar, f"required variable {name} is missing a value{told}")

    def _closing_brace(self, dollar: int, start: int, end: int) -> int:
        """Find the `}` that ends a form, which has to stand on the same line.

        Braces inside count, whosever they are (`${X:-{a}}`). If they do not come out even, the
        last `}` of the line ends it: what Compose's greedy expression does.
        """
        text = self._text
        newline = text.find("\n", start, end)
        end = newline if newline >= 0 else end
        open_braces = 1
        for brace in _BRACE.finditer(text, start, end):
            open_braces += 1 if brace[0] == "{" else -1
            if not open_braces:
                return brace.start()
        last = text.rfind("}", start, end)
        if last < 0:
            raise self._error(dollar, "`${` is not closed by `}` on the same line")
        return last

    def _plain(self, name: str) -> str:
        value = self._environment.get(name)
        if value is None and self._on_unset is not None:
            self._on_unset(name)
        return value or ""

    def _error(self, position: int, problem: str) -> UsageError:
        """Say where, without quoting the text: a value of `.env` may be a secret."""
        return UsageError(f"at character {position + 1}: {problem}")
