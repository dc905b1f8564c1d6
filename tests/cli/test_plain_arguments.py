"""Arguments that are read without Typer mean what Typer takes them to mean."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command

from longshore import cli_commands
from longshore.cli_arguments import read_arguments
from longshore.config_options import CONFIG, OPTIONS

COMMANDS = ("import", "export", "flush", "wait")
WORDS = (
    *(option.flag for option in (*OPTIONS, CONFIG)),
    *(option.off_flag for option in OPTIONS if option.kind == "switch"),
    *("-q", "-v", "-qv", "--", "-", "-h", "--help", "--scop", "--nothing", "--scope=", "--json=1"),
    *("--scope=main", "--image=a=b", "web", "api", "pr:17", "", "1h", "-1", "a b", "--timeout=-1"),
)


def as_typer_reads(command: str, words: list[str]) -> tuple[dict[str, Any], list[str]] | None:
    """Have Typer read a command; `None` if it refuses."""
    found: list[tuple[dict[str, Any], list[str]]] = []

    def run(_: object, flags: dict[str, Any], *rest: Any) -> int:
        found.append((flags, list(rest[1]) if rest else []))
        return 0

    with (
        patch("longshore.cli_commands.run_handed", run),
        patch("longshore.cli_wait.wait", run),
    ):
        try:
            COMMAND.main([command, *words], standalone_mode=False)
        except Exception:
            return None
    return found[0] if found else None


COMMAND = get_command(cli_commands.app)


@settings(max_examples=150)
@given(st.sampled_from(COMMANDS), st.lists(st.sampled_from(WORDS), max_size=6))
def test_what_is_read_is_what_typer_reads(command: str, words: list[str]) -> None:
    read = read_arguments(command, words)
    if read is None or (command == "wait" and read.names):
        return

    found = as_typer_reads(command, words)
    assert found is not None
    flags, names = found
    given_flags = {name: value for name, value in flags.items() if value not in (None, [], ())}
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in given_flags.items()} == read.flags
    assert names == read.names


@pytest.mark.parametrize(
    ("words", "flags", "names"),
    [
        ([], {}, []),
        (["web", "--strict", "api"], {"strict": True}, ["web", "api"]),
        (["--no-sidecar", "-q", "-v"], {"sidecar": False, "quiet": True, "verbose": True}, []),
        (["--scope", "a", "--scope=b"], {"scope": "b"}, []),
        (["--image", "a=b", "--image", "c=d"], {"image": ["a=b", "c=d"]}, []),
        (["--config", "x.toml"], {"config": "x.toml"}, []),
    ],
)
def test_what_is_plain_is_read(words: list[str], flags: dict[str, Any], names: list[str]) -> None:
    read = read_arguments("import", words)

    assert read is not None
    assert (read.flags, read.names) == (flags, names)


@pytest.mark.parametrize(
    "words", [["-h"], ["--"], ["--scope"], ["--scope", "--json"], ["--level", "3"], ["-qv"], [""]]
)
def test_what_is_not_plain_is_left_to_typer(words: list[str]) -> None:
    assert read_arguments("import", words) is None
