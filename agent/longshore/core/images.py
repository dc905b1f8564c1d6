"""What longshore reads of an image's own documents (OCI image spec, config.md and manifest.md).

The bytes of a document are kept as they are: writing its JSON anew would change its digest.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct

from longshore.core.digests import Digest, chain_ids, digest_of, parse_digest
from longshore.core.documents import count_values
from longshore.errors import CorruptData

T = TypeVar("T")

CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"

MAX_LAYERS = 4096  # the engines stop at 125 (graphdriver) or where overlayfs does
MAX_STEPS = 4096  # of a history
MAX_VALUES = 200_000  # of a config, manifest or index


class Step(Struct, frozen=True):
    """One entry of an image's history: what a build step did."""

    created_by: str = ""
    created: str = ""
    comment: str = ""
    empty_layer: bool = False
    author: str = ""


class _RootFs(Struct):
    diff_ids: list[str] | None = None


class _Config(Struct):
    rootfs: _RootFs | None = None
    history: list[Step] | None = None
    architecture: str = ""
    os: str = ""
    variant: str = ""
    created: str | None = None


class ImageConfig(Struct, frozen=True):
    """What a config document says; `layers` and `history` are base first."""

    digest: Digest
    diff_ids: tuple[Digest, ...]
    history: tuple[Step, ...]

    @property
    def chain_ids(self) -> tuple[Digest, ...]:
        """The chain_id of each layer upon those below it."""
        return chain_ids(self.diff_ids)

    def was_built_on(self, parent: ImageConfig) -> bool:
        """Tell whether an engine accepts another image as the one that this was built on.

        The rule is moby's (`image/tarexport/load.go`, `checkValidParent`): a history is the
        parent's and one step more, or there is none at all.
        """
        if not self.history and not parent.history:
            return True
        if len(self.history) != len(parent.history) + 1:
            return False
        steps = zip(self.history, parent.history, strict=False)
        return all(ours == theirs or _same_step(ours, theirs) for ours, theirs in steps)


def _same_step(one: Step, other: Step) -> bool:
    """Compare steps; engines write the times of a base image in their own way."""
    try:
        times = [datetime.fromisoformat(step.created) for step in (one, other)]
        same_time = times[0] == times[1]
    except (ValueError, TypeError):  # the latter if only one has a zone
        return False
    return same_time and msgspec.structs.replace(one, created=other.created) == other


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
