"""What longshore reads of an image's own documents (OCI image spec, config.md and manifest.md).

The bytes of a document are kept as they are: writing its JSON anew would change its digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import msgspec

from longshore.core.digests import Digest, chain_ids, digest_of, parse_digest
from longshore.core.documents import count_values
from longshore.errors import CorruptData

T = TypeVar("T")

CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"

MAX_LAYERS = 4096  # the engines stop at 125 (graphdriver) or where overlayfs does
MAX_STEPS = 4096  # of a history
MAX_VALUES = 200_000  # of a config, manifest or index


class Step(msgspec.Struct, frozen=True):
    """One entry of an image's history: what a build step did."""

    created_by: str = ""
    created: str = ""
    comment: str = ""
    empty_layer: bool = False


class _RootFs(msgspec.Struct):
    diff_ids: list[str] | None = None


class _Config(msgspec.Struct):
    rootfs: _RootFs | None = None
    history: list[Step] | None = None
    architecture: str = ""
    os: str = ""
    variant: str = ""
    created: str | None = None


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What a config document says; `layers` and `history` are base first."""

    digest: Digest
    diff_ids: tuple[Digest, ...]
    history: tuple[Step, ...]

    @property
    def chain_ids(self) -> tuple[Digest, ...]:
        """The chain_id of each layer upon those below it."""
        return chain_ids(self.diff_ids)


def decode_json(data: bytes, kind: type[T], what: str) -> T:
    """Parse a document of an image, whose author nobody knows.

    Args:
        what: how messages name it.

    Raises:
        CorruptData: it is no such document, or absurdly large.
    """
    if count_values(data) > MAX_VALUES:
        raise CorruptData(f"an image's {what} holds more than {MAX_VALUES:,} values")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"an image's {what} cannot be read ({str(error)[:200]})") from error


def parse_config(data: bytes) -> ImageConfig:
    """Read a config document.

    Raises:
        CorruptData: it is none.
    """
    config = decode_json(data, _Config, "config")
    diff_ids = (config.rootfs.diff_ids if config.rootfs else None) or []
    if len(diff_ids) > MAX_LAYERS:
        raise CorruptData(f"an image's config names {len(diff_ids)} layers")
    if len(config.history or ()) > MAX_STEPS:
        raise CorruptData(f"an image's config tells of more than {MAX_STEPS} steps")
    return ImageConfig(
        digest_of(data), tuple(parse_digest(text) for text in diff_ids), tuple(config.history or ())
    )
