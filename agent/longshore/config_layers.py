"""The layers of the configuration: flags, variables, the file; the first that speaks counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from longshore.config_secrets import Secret, parse_secret
from longshore.config_values import parse_boolean
from longshore.errors import UsageError

if TYPE_CHECKING:
    from longshore.config_options import Option

T = TypeVar("T")

Flags = Mapping[str, Any]
"""Values of flags by the names of options; `None` and empty lists if they were not given."""

_NUMBERS_TOO = ("level", "memory", "timeout", "duration", "max-size")


def variable(environment: Mapping[str, str], name: str) -> str | None:
    """Return a variable; one that is empty counts as not set, as CI services pass them on."""
    return environment.get(name, "").strip() or None


class Layers:
    """The values that were given, and who gave them."""

    def __init__(
        self,
        flags: Flags,
        environment: Mapping[str, str],
        file: Mapping[str, object],
        file_name: str,
        options: Iterable[Option],
    ) -> None:
        self._flags = flags
        self._environment = environment
        self._file = file
        self._file_name = file_name
        self._options = {option.name: option for option in options}
        self.sources: dict[str, str] = {}

    def check_file(self) -> None:
        """Refuse keys that mean nothing."""
        for key in self._file:
            if key not in self._options:
                raise UsageError(
                    f"{self._file_name}: unknown key {key[:80]!r}; known are"
                    f" {', '.join(self._options)}"
                )

    def has(self, name: str) -> bool:
        return self._find(name) is not None

    def text(self, name: str) -> str | None:
        found = self._find(name)
        if found is None:
            return None
        value, source = found
        if isinstance(value, int) and not isinstance(value, bool) and name in _NUMBERS_TOO:
            return str(value)
        if not isinstance(value, str):
            wanted = "a text or a whole number" if name in _NUMBERS_TOO else "a text"
            raise UsageError(f"{source}: expected {wanted}, found {_kind(value)}")
        return value

    def parsed(self, name: str, parse: Callable[[str], T]) -> T | None:
        text = self.text(name)
        return None if text is None else self._read(name, parse, text)

    def texts(self, name: str) -> tuple[str, ...] | None:
        found = self._find(name)
        if found is None:
            return None
        value, source = found
        if isinstance(value, str):
            return tuple(value.split())
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"{source}: expected a list of texts, found {_kind(value)}")
        return tuple(value)

    def each_parsed(self, name: str, parse: Callable[[str], T]) -> tuple[T, ...] | None:
        texts = self.texts(name)
        return None if texts is None else tuple(self._read(name, parse, text) for text in texts)

    def secret(self, name: str, is_text: Callable[[str], bool]) -> Secret | None:
        found = self._find(name)
        if found is None:
            return None
        value, source = found
        if not isinstance(value, str):
            raise UsageError(f"{source}: expected the name of a file")
        return parse_secret(value, source, self._options[name].variable, is_text)

    def number(self, name: str, allowed: range) -> int | None:
        found = self._find(name)
        if found is None:
            return None
        value, source = found
        wanted = f"{source}: expected a whole number from {allowed[0]} to {allowed[-1]}"
        if isinstance(value, str) and value.isascii() and value.isdecimal():
            value = int(value[:9])
        if not isinstance(value, int) or isinstance(value, bool):
            raise UsageError(f"{wanted}, found {_kind(value)}")
        if value not in allowed:
            raise UsageError(f"{wanted}, found {value}")
        return value

    def switch(self, name: str) -> bool:
        found = self._find(name)
        if found is None:
            return self._options[name].on
        value, source = found
        if isinstance(value, str) and source == self._options[name].variable:
            return self._read(name, parse_boolean, value)
        if not isinstance(value, bool):
            raise UsageError(f"{source}: expected true or false, found {_kind(value)}")
        return value

    def _read(self, name: str, parse: Callable[[str], T], text: str) -> T:
        try:
            return parse(text)
        except UsageError as error:
            raise UsageError(f"{self.sources[name]}: {error}") from None

    def _find(self, name: str) -> tuple[object, str] | None:
        option = self._options[name]
        value = self._flags.get(name)
        if value is not None and value != []:
            found: tuple[object, str] = (value, option.flag)
        elif (text := variable(self._environment, option.variable)) is not None:
            found = (text, option.variable)
        elif name in self._file:
            found = (self._file[name], f"{self._file_name}: {name}")
        else:
            return None
        self.sources[name] = found[1]
        return found


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, str):
        return repr(value[:80])
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return type(value).__name__
