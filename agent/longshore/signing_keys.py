"""The keys of a run: read from where the settings say they are, and made by `longshore keygen`.

Cryptography is imported only if there are keys.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from longshore.config import Settings
from longshore.config_secrets import Secret, read_secret
from longshore.errors import UsageError

if TYPE_CHECKING:
    from longshore.core.signing import PublicKey, SigningKey, TrustedKeys

PUBLIC_SUFFIX = ".pub"
_SHORT_FORM = "ed25519:"


class Keys(Struct, frozen=True):
    """What a run signs with, and whose signatures count for it.

    Attributes:
        trusted: with the public key of `signing`: who signs what others have written, vouches for
            them. `None` if signatures do not matter.
    """

    signing: SigningKey | None = None
    trusted: TrustedKeys | None = None


NO_KEYS = Keys()


def read_keys(settings: Settings, directory: Path) -> Keys:
    """Read the keys that the settings name; relative names are from `directory` on.

    Raises:
        UsageError: one cannot be read, or is no key.
    """
    if settings.signing_key is None and not settings.trusted_key:
        return NO_KEYS
    from longshore.core.signing import TrustedKeys

    source = settings.sources.get("trusted-key", "--trusted-key")
    trusted = [_public_key(value, source, directory) for value in settings.trusted_key]
    signing = None
    if settings.signing_key is not None:
        signing = _signing_key(settings.signing_key, directory)
        trusted.append(signing.public)
    return Keys(signing, TrustedKeys(trusted))


def _signing_key(secret: Secret, directory: Path) -> SigningKey:
    from longshore.core.signing import SigningKey

    try:
        return SigningKey.parse(read_secret(secret, directory).decode("ascii", "replace"))
    except UsageError as error:
        raise _named(secret.source, error) from None


def _public_key(value: str, source: str, directory: Path) -> PublicKey:
    from longshore.core.signing import PublicKey

    try:
        if value.startswith(_SHORT_FORM):
            return PublicKey.parse(value)
        data = read_secret(Secret(source, file=value), directory)
        return PublicKey.parse(data.decode("ascii", "replace"))
    except UsageError as error:
        raise _named(source, error) from None


def _named(source: str, error: UsageError) -> UsageError:
    text = str(error)
    return UsageError(text if text.startswith(source) else f"{source}: {text}")


class MadeKeys(Struct, frozen=True):
    """A new pair of keys: the short form of the public one, and the files of both."""

    public_key: str
    private_key_file: str
    public_key_file: str


def make_keys(directory: Path, name: str, random: Callable[[int], bytes]) -> MadeKeys:
    """Make a pair of keys, and write each to a file of its own. Nothing is ever overwritten.

    Raises:
        UsageError: a file is there already, or cannot be written.
    """
    from longshore.core.signing import SEED_BYTES, SigningKey

    key = SigningKey.from_random(random(SEED_BYTES))
    private, public = directory / name, directory / (name + PUBLIC_SUFFIX)
    _write_new(private, name, key.to_pem(), mode=0o600)
    try:
        _write_new(public, public.name, key.public.to_pem(), mode=0o644)
    except UsageError:
        private.unlink(missing_ok=True)
        raise
    return MadeKeys(key.public.name, name, name + PUBLIC_SUFFIX)


def _write_new(path: Path, name: str, data: bytes, *, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise UsageError(
            f"{name} is there already, and a key is never overwritten; name another file with"
            " --output"
        ) from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"{name} cannot be written: {reason}") from error
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise UsageError(f"{name} cannot be written: {error.strerror or error}") from error
