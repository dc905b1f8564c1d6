"""OCI layouts: small documents that name each other and, at the leaves, blobs.

An engine with a containerd image store keeps an image as such a tree: an index (one manifest for
each platform, and attestations), manifests, configs, and the layers as they were pushed or built.
BuildKit's cache directories are such trees, too (OCI image spec, image-layout.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct, field

from longshore.core.digests import Digest, parse_digest
from longshore.core.images import decode_json, parse_config
from longshore.errors import CorruptData

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

LAYOUT_FILE = ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
INDEX_FILE = "index.json"

_NODES = frozenset({OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST})
_MAX_NODES = 10_000
_MAX_ATTACHED_BYTES = 256 << 10


class Descriptor(Struct, frozen=True, rename="camel", omit_defaults=True):
    """How a document names another one, or a blob."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None

    @property
    def is_node(self) -> bool:
        """Whether it names a document that names others."""
        return self.media_type in _NODES

    @property
    def is_layer(self) -> bool:
        """Whether it names a file system's layer, whatever compressed it."""
        return _is_layer(self.media_type)


def belongs_in_entry(media_type: str, size_bytes: int) -> bool:
    """Tell whether an entry holds a document itself, or as a blob.

    Besides what leads to the layers, that is what is small: attestations, mostly.
    """
    if media_type in _NODES or "config" in media_type or ".container.image." in media_type:
        return True
    return not _is_layer(media_type) and size_bytes <= _MAX_ATTACHED_BYTES


def _is_layer(media_type: str) -> bool:
    return ".layer." in media_type or ".rootfs." in media_type


class _Node(Struct, rename="camel"):
    media_type: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None  # Go writes a list of nothing as null
    manifests: list[Descriptor] | None = None


class _Document(Struct, rename="camel", omit_defaults=True):
    schema_version: int
    media_type: str
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None


class Tree(Struct):
    """What some documents name, directly and indirectly.

    Attributes:
        documents: media types of those that are at hand, each behind one that names it.
        blobs: what is not at hand, and is no index or manifest.
        absent: indexes and manifests that are not at hand: other platforms than those pulled.
    """

    documents: dict[Digest, str] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    absent: set[Digest] = field(default_factory=set)


def walk(roots: Iterable[Digest], documents: Mapping[Digest, bytes]) -> Tree:
    """Follow documents from roots, which have to be at hand, to the leaves.

    Raises:
        CorruptData: a document is no index or manifest where it has to be one, or there are
            absurdly many.
    """
    tree = Tree()
    nodes: dict[Digest, None] = {}
    for root in roots:
        node = _read(documents[root])
        guess = OCI_MANIFEST if node.config else OCI_INDEX  # the field is optional in OCI's
        tree.documents[root] = node.media_type if node.media_type in _NODES else guess
        nodes[root] = None
    waiting = deque(nodes)
    while waiting:
        for child in _children(_read(documents[waiting.popleft()])):
            name = parse_digest(child.digest)
            if name in documents:
                tree.documents.setdefault(name, child.media_type)
                if child.is_node and name not in nodes:
                    nodes[name] = None
                    waiting.append(name)
                    if len(nodes) > _MAX_NODES:
                        raise CorruptData(f"an image has more than {_MAX_NODES:,} manifests")
            elif child.is_node:
                tree.absent.add(name)
            else:
                tree.blobs.setdefault(name, child)
    return tree


def children_of(document: bytes) -> list[Descriptor]:
    """List what an index or manifest names.

    Raises:
        CorruptData: it cannot be read.
    """
    return _children(_read(document))


def tree_bytes(root: Digest, documents: Mapping[Digest, bytes], *, limit_bytes: int) -> int:
    """Tell how many bytes of documents have to be read to follow an image.

    Args:
        limit_bytes: stop counting when it is more.

    Raises:
        CorruptData: a document cannot be read.
    """
    seen, waiting, total = {root}, [root], 0
    while waiting and total <= limit_bytes:
        data = documents[waiting.pop()]
        total += len(data)
        for child in _children(_read(data)):
            name = parse_digest(child.digest)
            if child.is_node and name in documents and name not in seen:
                seen.add(name)
                waiting.append(name)
    return total


class ImageTree(Struct, frozen=True):
    """An image as a containerd store keeps it.

    Attributes:
        documents: media types; the image's target, an index or manifest, comes first.
        blobs: the layers and all else that it needs, of each platform that is at hand.
        config: of the platform that was asked for.
        layers: of that platform, base first.
    """

    documents: dict[Digest, str]
    blobs: dict[Digest, Descriptor]
    config: Digest
    layers: tuple[Descriptor, ...]


def image_tree(
    target: Digest, diff_ids: Sequence[str], documents: Mapping[Digest, bytes]
) -> ImageTree | None:
    """Follow an image's documents; `None` if they are not all at hand.

    Args:
        diff_ids: of the image for the platform that counts: they tell its manifest from others.

    Raises:
        CorruptData: a document cannot be read.
    """
    if target not in documents:
        return None
    tree = walk([target], documents)
    blobs: dict[Digest, Descriptor] = {}
    found: tuple[Digest, list[Descriptor]] | None = None
    for digest, media_type in tree.documents.items():
        if media_type not in _NODES:
            continue
        node = _read(documents[digest])
        config = parse_digest(node.config.digest) if node.config else None
        if config is not None and config not in documents:
            continue  # an engine that lacks a part of a platform saves its manifest alone
        for child in _children(node):
            if child.is_layer or child.digest in tree.blobs:
                blobs[parse_digest(child.digest)] = child
        layers = node.layers or []
        if found is not None or config is None or len(layers) != len(diff_ids):
            continue
        if not all(layer.is_layer for layer in layers):
            continue
        if list(parse_config(documents[config]).diff_ids) == list(diff_ids):
            found = config, layers
    if found is None:
        return None
    return ImageTree(tree.documents, blobs, found[0], tuple(found[1]))


def write_manifest(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """Write an OCI manifest; the same every time, so that the image gets the same id."""
    return msgspec.json.encode(_Document(2, OCI_MANIFEST, config=config, layers=list(layers)))


def write_index(manifests: Collection[Descriptor]) -> bytes:
    """Write an OCI index."""
    return msgspec.json.encode(_Document(2, OCI_INDEX, manifests=list(manifests)))


def _children(node: _Node) -> list[Descriptor]:
    config = [node.config] if node.config else []
    return [*config, *(node.layers or ()), *(node.manifests or ())]


def _read(data: bytes) -> _Node:
    return decode_json(data, _Node, "manifest")
