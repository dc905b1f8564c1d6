"""Image references, by Docker's rules.

The grammar, the limits and the short forms are those of github.com/distribution/reference, which
the engine itself uses: `regexp.go` (grammar), `normalize.go` (default registry, `library/`,
`latest`) and `reference.go` (255 characters of path).
"""

from __future__ import annotations

import re
from typing import Self

from msgspec import Struct

from longshore.core.digests import Digest, is_digest
from longshore.errors import UsageError

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
MAX_PATH = 255
_MAX_TEXT = 1024  # ours: a name of no sensible length is not worth matching
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
_BARE_ID = re.compile(r"[0-9a-f]{64}")


class ImageReference(Struct, frozen=True):
    """The name of an image; equal when the engine would take two names for the same.

    Exactly one of `tag` and `digest` is set: as in the engine, a digest makes the tag beside it
    meaningless (`ParseDockerRef`), so it is dropped.
    """

    domain: str
    path: str
    tag: str | None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference in any form that `docker` takes for an image's name.

        Image ids are refused: nothing can be tagged by an id. See `parse_image` for both.

        Raises:
            UsageError: it is no reference.
        """
        if not text or len(text) > _MAX_TEXT:
            raise _invalid(text, "it is empty" if not text else "it is too long")
        if is_digest(text) or _BARE_ID.fullmatch(text):
            raise _invalid(text, "it is an image id, not a name")
        rest, at, digest = text.partition("@")
        if at and not _is_any_digest(digest):
            raise _invalid(text, "what follows `@` is not a digest")
        domain, remainder = _split_domain(rest)
        path, colon, tag = remainder.partition(":")
        if path != path.lower():
            raise _invalid(text, "the repository name must be lower-case")
        if not _DOMAIN.fullmatch(domain) or not _PATH.fullmatch(path):
            raise _invalid(text)
        if colon and not _TAG.fullmatch(tag):
            raise _invalid(text, f"{tag[:140]!r} is not a tag" if tag else "the tag is empty")
        if len(path) > MAX_PATH:
            raise _invalid(text, f"the repository name is longer than {MAX_PATH} characters")
        if digest:
            return cls(domain, path, None, digest)
        return cls(domain, path, tag or DEFAULT_TAG)

    @property
    def repository(self) -> str:
        """The name without tag or digest, in full: `docker.io/library/redis`."""
        return f"{self.domain}/{self.path}"

    @property
    def canonical(self) -> str:
        """The full form: `docker.io/library/redis:7`."""
        return self.repository + self._suffix

    @property
    def familiar(self) -> str:
        """The form that `docker images` shows: `redis:7`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.canonical
        short = self.path.removeprefix(_OFFICIAL)
        return (self.path if "/" in short else short) + self._suffix

    @property
    def _suffix(self) -> str:
        return f"@{self.digest}" if self.digest else f":{self.tag}"

    def __str__(self) -> str:
        """Return the familiar form."""
        return self.familiar


def parse_image(text: str) -> ImageReference | Digest:
    """Read what may be a name or an image id (`sha256:…`, or its 64 hex digits).

    Abbreviated ids are read as names, as the engine reads them first.

    Raises:
        UsageError: it is neither.
    """
    if is_digest(text):
        return Digest(text)
    if _BARE_ID.fullmatch(text):
        return Digest(f"sha256:{text}")
    return ImageReference.parse(text)


def _split_domain(text: str) -> tuple[str, str]:
    """Tell the registry from the rest, and put in what is left out.

    The first part is a registry only if it cannot be a path: it holds `.` or `:`, is not all
    lower-case, or is `localhost`. A text without `/` never has one: `example.com` is a path.
    """
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, _OFFICIAL + text
    if first == "localhost" or "." in first or ":" in first or first != first.lower():
        domain = DEFAULT_DOMAIN if first == _LEGACY_DOMAIN else first
    else:
        domain, rest = DEFAULT_DOMAIN, text
    if domain == DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL + rest
    return domain, rest


def _is_any_digest(text: str) -> bool:
    algorithm, _, digits = text.partition(":")
    length = _HEX_DIGITS.get(algorithm)
    return length is not None and re.fullmatch(rf"[0-9a-f]{{{length}}}", digits) is not None


def _invalid(text: str, reason: str = "see `docker image tag --help` for the form") -> UsageError:
    return UsageError(f"invalid image reference {text[:200]!r}: {reason}")
