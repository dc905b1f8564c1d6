"""`.env` files, as Docker Compose v2 reads them (compose-go, `dotenv/parser.go`, v2.13).

Not as a shell does, nor as other dotenv readers do: `#` begins a comment in an unquoted value only
after a space, `KEY: value` is allowed, a `KEY` alone takes its value from the environment.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping

from longshore.core.interpolation import interpolate
from longshore.errors import UsageError

_BLANK = "\t\v\f\r \x85\xa0"  # `isSpace`: white space that does not end a line
_EXPORT = re.compile(r"export\s+")
_KEY_END = re.compile(r"[=:\n]")
_NOT_IN_KEY = re.compile(r"[^\w.\-\[\]]")
_SINGLE = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BACKSLASH = re.compile(r"\\(.)", re.DOTALL)
_ESCAPE = re.compile(r'\\(?:[abcfnrtv$"\\]|0\d{0,3})', re.ASCII)
_ESCAPED = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    '"': '"',
    "\\": "\\",
    "$": "$$",  # interpolation makes one of it
}


def parse_dotenv(
    text: str, environment: Mapping[str, str], *, path: str = ".env"
) -> dict[str, str]:
    """Read the variables of a `.env` file.

    Unquoted and double-quoted values are interpolated, from the environment first and from the
    file's earlier lines second. The result is the file's own: where both set a variable, the
    environment's value counts, so merge it as `{**parse_dotenv(…), **environment}`.

    Raises:
        UsageError: a line is not of the form; the message names file and line.
    """
    text = text.removeprefix("\ufeff")
    variables: dict[str, str] = {}
    known = ChainMap(dict(environment), variables)
    position = 0
    while (position := _next_statement(text, position)) < len(text):
        begin = position
        if export := _EXPORT.match(text, position):
            position = export.end()
        key, inherited, position = _read_key(text, position, path)
        if inherited:
            if key in environment:
                variables[key] = environment[key]
            continue
        value, interpolated, position = _read_value(text, position, path)
        if interpolated:
            try:
                value = interpolate(value, known)
            except UsageError as error:
                raise _error(text, begin, path, f"{key}: {error}") from None
        if key:
            variables[key] = value
    return variables


def _next_statement(text: str, position: int) -> int:
    """Skip white space and comments."""
    while position < len(text):
        if text[position].isspace():
            position += 1
        elif text[position] == "#":
            newline = text.find("\n", position)
            position = newline if newline >= 0 else len(text)
        else:
            break
    return position


def _read_key(text: str, position: int, path: str) -> tuple[str, bool, int]:
    """Read a name up to `=`, `:` or the end of its line; say whether the last ended it."""
    end = _KEY_END.search(text, position)
    stop = end.start() if end else len(text)
    inherited = end is None or end[0] == "\n"
    key = text[position:stop].strip()
    if wrong := _NOT_IN_KEY.search(key):
        # The line is not quoted: it may be part of a secret.
        raise _error(
            text, position, path, f"expected NAME=value, but {wrong[0]!r} cannot be in a name"
        )
    return key, inherited, end.end() if end else stop


def _read_value(text: str, position: int, path: str) -> tuple[str, bool, int]:
    """Read a value; say whether it is to be interpolated, and where it ends."""
    while position < len(text) and text[position] in _BLANK:
        position += 1
    quote = text[position : position + 1]
    if quote == "'" or quote == '"':
        quoted = (_SINGLE if quote == "'" else _DOUBLE).match(text, position)
        if quoted is None:
            raise _error(text, position, path, f"the value is not closed by {quote}")
        raw = _BACKSLASH.sub(lambda pair: quote if pair[1] == quote else pair[0], quoted[1])
        if quote == "'":
            return raw, False, quoted.end()
        return _ESCAPE.sub(_unescape, raw), True, quoted.end()
    newline = text.find("\n", position)
    stop = newline if newline >= 0 else len(text)
    value, _, _ = text[position:stop].partition(" #")
    return value.rstrip(), True, stop


def _unescape(match: re.Match[str]) -> str:
    escape = match[0][1:]
    if not escape.startswith("0"):
        return _ESCAPED.get(escape, match[0])
    digits = escape[1:]
    if re.fullmatch(r"[0-3][0-7]{2}", digits):
        return chr(int(digits, 8))
    return f"\\{digits}"  # what Compose leaves of an octal escape that is none


def _error(text: str, position: int, path: str, problem: str) -> UsageError:
    return UsageError(f"{path}:{text.count(chr(10), 0, position) + 1}: {problem}")
