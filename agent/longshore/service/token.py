"""The token that requests over TCP carry."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from longshore.config_secrets import Secret, read_secret
from longshore.config_values import is_token
from longshore.errors import UsageError


def token_of(given: Secret | None, directory: Path, socket: Path) -> tuple[str, Path | None]:
    """Read the token that was given, or make one that the socket's owner can read.

    Returns:
        The token, and the file that it was written to, beside the socket; `None` if it was given.

    Raises:
        UsageError: it cannot be read or written, or is none.
    """
    if given is not None:
        token = read_secret(given, directory).decode(errors="replace").strip()
        if not is_token(token):
            raise UsageError(
                f"{given.source}: this is no token; write 20 to 200 letters, digits, - and _"
            )
        return token, None
    token = secrets.token_urlsafe(32)
    file = socket.with_name(f"{socket.name}.token")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)  # of a sidecar before; its readers keep what they have open
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(f"{token}\n")
    except OSError as error:
        raise UsageError(
            f"{file}: the token cannot be written there ({error.strerror or error}); give one with"
            " --token"
        ) from error
    return token, file
