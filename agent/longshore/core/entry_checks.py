"""What an entry has to hold to be used: its parts agree, and there are not absurdly many of them.

Whoever has the rights of some scope could have written it. What is checked here is what all code
behind it relies on, such as that each image has its config, and that following parents comes to an
end. The limits are far above what images reach; they bound what an entry can cost in memory and in
time, and `docs/format.md` lists them.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from typing import TYPE_CHECKING

from longshore.core.digests import Digest, hex_of, parse_digest
from longshore.core.images import ImageConfig, parse_config
from longshore.core.layout import tree_bytes
from longshore.core.recipe import MAX_BLOB_BYTES
from longshore.core.references import ImageReference
from longshore.errors import CorruptData, UsageError

if TYPE_CHECKING:
    from longshore.core.entry import Entry, Figures, Image

MAX_IMAGES = 2000  # an export stops at 1000
MAX_BLOBS = 10_000
MAX_DOCUMENTS = 10_000
MAX_TAGS = 4096
MAX_TAG = 400
MAX_FIGURE = (1 << 63) - 1
MAX_SECONDS = 1_000_000_000
# Each image is followed to its layers, and several may lead through the same documents.
MAX_FOLLOWED_BYTES = 64 << 20


def check_counts(entry: Entry) -> None:
    """Refuse an entry with more parts than any has; who writes one asks the same.

    Raises:
        CorruptData: there are too many of something.
    """
    counts = (
        ("images", len(entry.images), MAX_IMAGES),
        ("layers", len(entry.blobs), MAX_BLOBS),
        ("documents", len(entry.documents), MAX_DOCUMENTS),
        ("references", len(entry.refs), MAX_BLOBS),
        ("tags", sum(len(image.tags) for image in entry.images), MAX_TAGS),
    )
    for what, number, limit in counts:
        if number > limit:
            raise CorruptData(f"the entry has {number:,} {what}; at most {limit:,} are allowed")


def check_entry(entry: Entry) -> None:
    """Check that the parts of an entry agree.

    Raises:
        CorruptData: they do not.
    """
    check_counts(entry)
    _check_figures(entry.figures)
    _check_blobs(entry)
    _check_images(entry)
    _check_parents(entry.images)
    _check_trees(entry)


def _check_figures(figures: Figures) -> None:
    numbers = (figures.image_bytes, figures.uploaded_bytes, figures.new_blobs)
    counted = all(0 <= number <= MAX_FIGURE for number in numbers)
    if not counted or not 0 <= figures.seconds <= MAX_SECONDS:
        raise CorruptData("the entry's figures are none that an export can have")


def _check_blobs(entry: Entry) -> None:
    _check_distinct("layer", [blob.digest for blob in entry.blobs])
    for blob in entry.blobs:
        digest = parse_digest(blob.digest)
        if not 0 <= blob.size <= MAX_BLOB_BYTES:
            raise CorruptData("a layer of the entry has an impossible size")
        if blob.recipe is None:
            continue
        if not 0 <= blob.recipe < len(entry.refs):
            raise CorruptData("a layer of the entry names a recipe that the entry does not")
        if entry.refs[blob.recipe].id.partition(".")[0] != hex_of(digest):
            raise CorruptData("a layer of the entry names a recipe of another layer")


def _check_images(entry: Entry) -> None:
    if entry.kind == "image" and not entry.images:
        raise CorruptData("the entry holds no image")
    if entry.kind != "image" and entry.images:
        raise CorruptData(f"the entry is of the kind {entry.kind}, and holds images")
    if entry.kind == "buildkit-cache" and entry.index not in entry.documents:
        raise CorruptData("the entry holds no index of a cache")
    _check_distinct("image", [image.id for image in entry.images])
    blobs = {blob.digest for blob in entry.blobs}
    ids = {image.id for image in entry.images}
    configs: dict[Digest, ImageConfig] = {}  # several images may have the same
    for image in entry.images:
        parse_digest(image.id)
        name = parse_digest(image.config)
        if name not in configs:
            if name not in entry.documents:
                raise CorruptData("an image of the entry has no config in it")
            configs[name] = parse_config(entry.documents[name])
        if list(configs[name].diff_ids) != image.diff_ids:
            raise CorruptData("an image of the entry has other layers than its config")
        if len(image.layers) != len(image.diff_ids) or not blobs.issuperset(image.layers):
            raise CorruptData("an image of the entry has layers that the entry does not name")
        if image.parent is not None and image.parent not in ids:
            raise CorruptData("an image of the entry has a parent that is not in the entry")
        for tag in image.tags:
            _check_tag(tag)


def _check_tag(tag: str) -> None:
    # In the form that engines show, and no other, so that two texts are two tags.
    try:
        if len(tag) <= MAX_TAG and ImageReference.parse(tag).familiar == tag and "@" not in tag:
            return
    except UsageError:
        pass
    raise CorruptData("an image of the entry has an impossible tag")


def _check_parents(images: Iterable[Image]) -> None:
    parents = {image.id: image.parent for image in images}
    ends: set[str] = set()
    for image_id in parents:
        path: set[str] = set()
        following: str | None = image_id
        while following is not None and following not in ends:
            if following in path:
                raise CorruptData("an image of the entry is its own ancestor")
            path.add(following)
            following = parents[following]
        ends |= path


def _check_trees(entry: Entry) -> None:
    left = MAX_FOLLOWED_BYTES
    for image in entry.images:
        if image.id != image.config and image.id in entry.documents:
            left -= tree_bytes(Digest(image.id), entry.documents, limit_bytes=left)
            if left < 0:
                raise CorruptData("the manifests of the entry lead through too many documents")


def _check_distinct(what: str, names: list[str]) -> None:
    if has_twice(names):
        raise CorruptData(f"the entry holds the same {what} twice")


def has_twice(names: Collection[Hashable]) -> bool:
    """Tell whether a name comes more than once."""
    return len(set(names)) < len(names)
