"""The entry: what makes the images of one service, at one moment, on one platform, reachable.

An entry holds the images' own small documents (configs, manifests, indexes) byte for byte, and
names the recipes of their blobs. All that is read here was written by somebody with the rights of
some scope, so every field is checked before it is used.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct, field

from longshore.core import documents
from longshore.core.digests import Digest, digest_of, parse_digest
from longshore.core.documents import printable
from longshore.core.entry_checks import check_counts, check_entry, has_twice
from longshore.core.images import ImageConfig, parse_config
from longshore.core.keys import EntryKey, Ref, segment
from longshore.errors import CorruptData, StoreError, UsageError

Kind = Literal["image", "buildkit-cache", "flushed"]

_MAX_SOURCE = 256  # characters; git's names are paths
_DIGEST_BYTES, _PART_BYTES = 130, 600  # measured: what Python makes of them
# RFC 3986, in short; what shows it as a link must not have to look at it again.
_URL = re.compile(
    r"https?://[A-Za-z0-9.\-:\[\]]{1,255}(?:[/?#][A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]{0,1700})?"
)


class Misplaced(CorruptData):
    """An entry lies under a key that is not its own: it was copied or moved there."""


def cache_name(service: str) -> str:
    """Name the BuildKit cache of a service as entries do; no service can have that name."""
    return f"{service}:buildkit-cache"


class Document(Struct, frozen=True):
    """A small document of an image, byte for byte."""

    digest: str
    media_type: str
    data: str


class Image(Struct, frozen=True):
    """One image: the service's own first, then its stages and parents.

    Attributes:
        id: what the engine that was exported called it: the config's digest on a graphdriver
            store, the manifest's or index's on a containerd store.
        tags: as `docker images` shows them.
        parent: `id` of the image that it was built on, if that is in the entry, too.
        layers: digest of the blob of each diff_id, base first.
    """

    id: str
    config: str
    tags: list[str]
    parent: str | None
    diff_ids: list[str]
    layers: list[str]


class Blob(Struct, frozen=True):
    """One layer as it was saved; `recipe` is an index into `refs`, or None if it is not kept."""

    digest: str
    size: int
    media_type: str
    recipe: int | None


class EngineFacts(Struct, frozen=True):
    """Which engine the images came from."""

    version: str
    image_store: str


class Source(Struct, frozen=True):
    """Where the build came from, as far as it is known."""

    revision: str | None = None
    branch: str | None = None
    job_url: str | None = None


class Figures(Struct, frozen=True):
    """What the export did.

    Attributes:
        image_bytes: all distinct layers of the entry, uncompressed or as the engine keeps them.
        uploaded_bytes: what the export that wrote this entry sent, for all its services.
        new_blobs: layers of this entry that were not reachable before.
    """

    image_bytes: int
    uploaded_bytes: int
    new_blobs: int
    seconds: float


NO_SOURCE = Source()
NO_FIGURES = Figures(0, 0, 0, 0.0)


class Entry(Struct, frozen=True):
    """One entry; see `docs/format.md`, "Entry"."""

    kind: Kind
    project: str
    scope: str
    service: str
    platform: str
    id: str
    basis: datetime
    """Store time at which its writer read the entries that it relies on."""
    agent: str
    engine: EngineFacts
    documents: dict[Digest, bytes] = field(default_factory=dict)
    media_types: dict[Digest, str] = field(default_factory=dict)
    images: tuple[Image, ...] = ()
    index: Digest | None = None
    """Of a BuildKit cache: the document that is its `index.json`."""
    blobs: tuple[Blob, ...] = ()
    refs: tuple[Ref, ...] = ()
    source: Source = NO_SOURCE
    figures: Figures = NO_FIGURES

    def config(self, image: Image) -> ImageConfig:
        """Return the parsed config of one of the entry's images."""
        return parse_config(self.documents[parse_digest(image.config)])

    @property
    def held_bytes(self) -> int:
        """About how much memory it takes."""
        layers = sum(len(image.diff_ids) + len(image.layers) for image in self.images)
        tags = sum(len(image.tags) for image in self.images)
        parts = (self.documents, self.images, self.blobs, self.refs)
        return (
            sum(map(len, self.documents.values()))
            + layers * _DIGEST_BYTES
            + (tags + sum(map(len, parts))) * _PART_BYTES
        )

    def recipe_refs(self) -> dict[Digest, Ref]:
        """Tell which recipe rebuilds each blob that is kept."""
        return {
            Digest(blob.digest): self.refs[blob.recipe]
            for blob in self.blobs
            if blob.recipe is not None
        }


class _Wire(Struct):
    format: int
    requires: list[str]
    kind: str
    project: str
    scope: str
    service: str
    platform: str
    id: str
    basis: datetime
    agent: str
    engine: EngineFacts
    refs: list[tuple[str, str]]
    documents: list[Document] = []
    images: list[Image] = []
    index: str | msgspec.UnsetType = msgspec.UNSET
    blobs: list[Blob] = []
    source: Source = NO_SOURCE
    figures: Figures = NO_FIGURES


def encode_entry(entry: Entry) -> bytes:
    """Write the document of an entry, without its envelope.

    Raises:
        StoreError: it has more parts, or is larger, than readers accept.
    """
    try:
        check_counts(entry)
    except CorruptData as error:
        raise StoreError(f"{entry.service} cannot be cached: {error}") from None
    return documents.encode(
        _Wire(
            format=documents.FORMAT,
            requires=[],
            kind=entry.kind,
            project=entry.project,
            scope=entry.scope,
            service=entry.service,
            platform=entry.platform,
            id=entry.id,
            basis=entry.basis,
            agent=entry.agent,
            engine=entry.engine,
            refs=documents.write_refs(entry.refs),
            documents=[
                Document(digest, entry.media_types[digest], documents.to_base64(data))
                for digest, data in entry.documents.items()
            ],
            images=list(entry.images),
            index=entry.index or msgspec.UNSET,
            blobs=list(entry.blobs),
            source=entry.source,
            figures=entry.figures,
        )
    )


def decode_entry(payload: bytes, project: str, key: EntryKey) -> Entry:
    """Read the entry that was stored under `key`.

    Raises:
        UnsupportedFormat: a newer longshore wrote it.
        CorruptData: it is damaged, contradicts itself, or is not the one that its key says.
    """
    wire = documents.decode(payload, _Wire)
    try:
        same = (
            wire.project == project
            and segment(wire.scope) == key.scope
            and segment(wire.service) == key.service
            and segment(wire.platform) == key.platform
            and wire.id == key.id
        )
    except UsageError:
        same = False
    if not same:
        raise Misplaced("the entry belongs under another key: somebody moved it")
    if wire.kind not in ("image", "buildkit-cache", "flushed"):
        raise CorruptData(f"the entry has an unknown kind {wire.kind[:40]!r}")
    if wire.basis.tzinfo is None:
        raise CorruptData("the entry's basis has no time zone")
    refs = documents.read_refs(wire.refs)
    if has_twice([item.digest for item in wire.documents]):
        raise CorruptData("the entry holds the same document twice")
    kept = {parse_digest(item.digest): documents.from_base64(item.data) for item in wire.documents}
    for digest, data in kept.items():
        if digest_of(data) != digest:
            raise CorruptData(f"the document {digest} of the entry does not match its digest")
    entry = Entry(
        kind=wire.kind,  # type: ignore[arg-type]  # checked above
        project=wire.project,
        scope=wire.scope,
        service=wire.service,
        platform=wire.platform,
        id=wire.id,
        basis=wire.basis,
        agent=printable(wire.agent),
        engine=EngineFacts(printable(wire.engine.version), printable(wire.engine.image_store)),
        documents=kept,
        media_types={Digest(item.digest): printable(item.media_type) for item in wire.documents},
        images=tuple(wire.images),
        index=parse_digest(wire.index) if wire.index else None,
        blobs=tuple(
            msgspec.structs.replace(blob, media_type=printable(blob.media_type))
            for blob in wire.blobs
        ),
        refs=refs,
        source=Source(
            wire.source.revision and printable(wire.source.revision[:_MAX_SOURCE]),
            wire.source.branch and printable(wire.source.branch[:_MAX_SOURCE]),
            _link(wire.source.job_url),
        ),
        figures=wire.figures,
    )
    check_entry(entry)
    return entry


def _link(text: str | None) -> str | None:
    """Keep what can be followed without harm: an address on the web, without a user in it."""
    return text if text is not None and _URL.fullmatch(text) else None
