"""The arguments of a command, read without Typer, which takes longer than a sidecar's answer.

Only what is plain is read here. Whatever is not, such as `--help` or a mistake, is Typer's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from longshore.config_options import CONFIG, OPTIONS, Option


class Arguments(NamedTuple):
    """What was typed behind a command.

    Attributes:
        flags: by the names of options; those that were not typed are not in it.
    """

    flags: dict[str, Any]
    names: list[str]


def read_arguments(command: str, words: Sequence[str]) -> Arguments | None:
    """Read the words behind `command`; `None` if Typer has to read them."""
    taken = [option for option in (*OPTIONS, CONFIG) if not option.only or command in option.only]
    switches = {name: value for option in taken for name, value in _switches(option).items()}
    valued = {option.flag: option for option in taken if option.kind != "switch"}
    read = Arguments({}, [])
    left = iter(words)
    for word in left:
        flag, equals, value = word.partition("=")
        if word in switches:
            name, on = switches[word]
            read.flags[name] = on
        elif flag in valued:
            option = valued[flag]
            value = value if equals else next(left, "")
            if not value or value.startswith("-"):
                return None
            if option.kind == "list":
                read.flags.setdefault(option.name, []).append(value)
            else:
                read.flags[option.name] = value
        elif word and not word.startswith("-"):
            read.names.append(word)
        else:
            return None
    return read


def _switches(option: Option) -> dict[str, tuple[str, bool]]:
    """Tell the words that set a switch, and to what."""
    if option.kind != "switch":
        return {}
    words = {option.flag: (option.name, True), option.off_flag: (option.name, False)}
    return words | ({option.short: (option.name, True)} if option.short else {})
