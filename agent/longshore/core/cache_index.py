"""The `index.json` of a cache directory, as BuildKit reads it."""

from __future__ import annotations

import msgspec
from msgspec import Struct

_REF_NAME = "org.opencontainers.image.ref.name"


class _Manifest(Struct):
    digest: str = ""
    annotations: dict[str, str] | None = None


class _Index(Struct):
    manifests: list[_Manifest] = []


def latest_manifest(index: bytes) -> str | None:
    """Find the digest of the manifest that a build begins with: the one named `latest`.

    `None` if there is none, or if it cannot be read; then BuildKit fails the build.
    """
    try:
        manifests = msgspec.json.decode(index, type=_Index).manifests
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    named = (m.digest for m in manifests if (m.annotations or {}).get(_REF_NAME) == "latest")
    return next(named, None)
