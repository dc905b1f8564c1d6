"""Keys as settings: named by a file, or given as text in a variable, and shown by nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from longshore.config_options import OPTIONS
from longshore.core.foreign_words import hide
from longshore.errors import UsageError

MAX_KEY_FILE_BYTES = 64 << 10
_SECRET_NAME = re.compile(r"(?:SECRET|TOKEN|PASSWORD|PASSWD|JWT)(?:_|$)|SECRET_ACCESS_KEY")
_LEAST = 12  # shorter ones are words that may stand in a text for what they are


class Secret(NamedTuple):
    """A key that was given, not read yet.

    Neither the text nor the name of the file is in its repr, nor in any message: who takes the one
    for the other must not find the key in a log.

    Args:
        source: the flag, variable or key of the file that gave it.
    """

    source: str
    text: str | None = None
    file: str | None = None

    def __repr__(self) -> str:
        return f"Secret(source={self.source!r})"

    def __str__(self) -> str:
        return "(given)"


def parse_secret(
    value: str,
    source: str,
    variable: str,
    is_text: Callable[[str], bool],
) -> Secret:
    """Tell a key's text from the name of its file; text is accepted in the variable only.

    Raises:
        UsageError: the key itself is where others can read it.
    """
    if not is_text(value):
        return Secret(source, file=value)
    if source != variable:
        raise UsageError(
            f"{source}: the key itself must not be there, where others can read it; name its file,"
            f" or put it into the variable {variable}"
        )
    return Secret(source, text=value)


def read_secret(secret: Secret, directory: Path) -> bytes:
    """Read the key that was given.

    Raises:
        UsageError: the file cannot be read.
    """
    if secret.text is not None:
        return secret.text.encode()
    assert secret.file is not None
    try:
        with (directory / secret.file).open("rb") as file:
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "no valid name"
        raise UsageError(
            f"{secret.source}: the file of the key cannot be read ({reason})"
        ) from None
    if len(data) > MAX_KEY_FILE_BYTES:
        raise UsageError(f"{secret.source}: the file is larger than any key can be")
    return data


def hider(environment: Mapping[str, str]) -> Callable[[str], str]:
    """Make what takes the secrets of the environment out of a text, wherever they got into it."""
    known: set[str] = set()
    own = {option.variable for option in OPTIONS if option.kind == "secret"}
    for name, value in environment.items():
        if name in own or _SECRET_NAME.search(name):
            # A key of several lines may be quoted by the line.
            known.update(line for line in (value.strip(), *value.split()) if len(line) >= _LEAST)
    return lambda text: hide(text, known)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out longshore's own keys: what it starts, or what a services file says, needs none."""
    hidden = {option.variable for option in OPTIONS if option.kind == "secret"}
    return {name: value for name, value in environment.items() if name not in hidden}
