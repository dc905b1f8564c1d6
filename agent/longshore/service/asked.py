"""What may be asked of a sidecar, and how it is written: the bounds that `openapi.py` tells."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from longshore.config_values import LEVELS, parse_duration, parse_size
from longshore.core.keys import segment
from longshore.errors import UsageError
from longshore.service.task import GIVEN, OPTIONS, Command, Task

MAX_BODY_BYTES = 1 << 20
MAX_SERVICES = 200
MAX_NAME = 255
MAX_GIVEN = 2000
# As JSON Schema has them.
NAME_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]+$"
DURATION_PATTERN = r"^([0-9]{1,6}(\.[0-9]{1,6})?[smhd]){1,3}$"
SIZE_PATTERN = r"^[0-9]{1,15}([kKMGT](i?B)?)?$"
WAIT_PATTERN = r"^([0-9]|[1-5][0-9]|60)$"
SWITCHES = frozenset({"strict", "verbose", "parents", "whole", "dry-run"})


def parse_task(body: bytes, flags: Mapping[str, Any]) -> Task:
    """Read what is asked for.

    Args:
        flags: of the sidecar; what the body says goes before them.

    Raises:
        UsageError: it is not as `openapi.py` describes it.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError("the body is no JSON") from error
    if not isinstance(asked, dict) or not isinstance(asked.get("command"), str):
        raise UsageError('the body is no task; write it like {"command": "export"}')
    command = asked["command"]
    if command not in OPTIONS:
        raise UsageError(f"{command[:80]!r} is no job; jobs are {', '.join(OPTIONS)}")
    if unknown := asked.keys() - {"command", "services", "options", "terminal", "given"}:
        raise UsageError(f"{min(unknown)[:80]!r} means nothing in a task")
    terminal = asked.get("terminal", False)
    if not isinstance(terminal, bool):
        raise UsageError("`terminal` is neither true nor false")
    own = {"yes": True} if command == "flush" else {}
    return Task(
        cast(Command, command),
        _services(asked.get("services", [])),
        {**flags, **own, **_options(command, asked.get("options", {}))},
        terminal=terminal,
        given=_given(asked.get("given", {})),
    )


def is_name(value: object) -> bool:
    """Tell whether something may be the name of a service or scope."""
    if not isinstance(value, str) or len(value) > MAX_NAME or not re.fullmatch(NAME_PATTERN, value):
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)  # halves of pairs


def _services(found: object) -> tuple[str, ...]:
    if not isinstance(found, list) or len(found) > MAX_SERVICES or not all(map(is_name, found)):
        raise UsageError("`services` is no list of names of services")
    return tuple(dict.fromkeys(found))


def _options(command: str, found: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise UsageError("`options` is no object")
    if foreign := found.keys() - OPTIONS[command]:
        known = ", ".join(sorted(OPTIONS[command]))
        raise UsageError(f"{command} takes no option {min(foreign)[:80]!r}; it takes {known}")
    return {name: _option(name, value) for name, value in found.items()}


def _option(name: str, value: object) -> object:
    if name in SWITCHES:
        if not isinstance(value, bool):
            raise UsageError(f"the option {name!r} is neither true nor false")
        return value
    if name == "level":
        if value == "auto":
            return value
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(number, bool) or not isinstance(number, int):
            raise UsageError("the option 'level' is neither auto nor a whole number")
        if number not in LEVELS:
            raise UsageError(f"the option 'level' is not from {LEVELS[0]} to {LEVELS[-1]}")
        return number
    if name == "scope":
        if not is_name(value):
            raise UsageError("the option 'scope' is no name of a scope")
        segment(str(value))
        return value
    pattern, parse = _PARSED[name]
    if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
        raise UsageError(f"the option {name!r} is not written as it has to be")
    parse(value)
    return value


def _given(found: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise UsageError("`given` is no object")
    if foreign := found.keys() - GIVEN:
        raise UsageError(f"{min(foreign)[:80]!r} means nothing in `given`")
    for name, value in found.items():
        texts = value if isinstance(value, list) else [value]
        plain = all(isinstance(text, str) and len(text) <= MAX_GIVEN for text in texts)
        if not plain and value is not None and value is not True:
            raise UsageError(f"{name!r} in `given` is neither a text, nor a list, true or null")
    return found


_PARSED: Mapping[str, tuple[str, Any]] = {
    "timeout": (DURATION_PATTERN, parse_duration),
    "max-image-size": (SIZE_PATTERN, parse_size),
}
