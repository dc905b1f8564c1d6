"""How images are sent to an engine with a containerd store: as an OCI layout.

Such an engine names an image by the digest of its index or manifest, takes the blobs as they are,
and needs none that it has (containerd, `core/images/archive/importer.go`). An image that came from
a graphdriver store has no manifest; it is given one here, the same every time.

A load does not restore which image was built on which, so parents without a tag are not sent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from longshore.core.archive import blob_name
from longshore.core.digests import Digest, digest_of
from longshore.core.entry import Entry, Image
from longshore.core.images import LAYER
from longshore.core.layout import (
    INDEX_FILE,
    LAYOUT_FILE,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    image_tree,
    write_index,
    write_manifest,
)
from longshore.core.load_plan import Expected, Files, LoadForm, Stack, bare_config, stack_ids
from longshore.core.references import ImageReference
from longshore.errors import CorruptData, UsageError

NAME = "io.containerd.image.name"


class LayoutForm(LoadForm):
    """OCI layouts, which name images by their indexes or manifests."""

    def expected(self, entry: Entry) -> tuple[Expected, ...]:
        """List the images that are sent, by the digests of their indexes or manifests."""
        layers = _layers(entry)
        return tuple(
            Expected(_target(entry, image, layers)[0], tuple(image.tags), None)
            for image in self.images(entry)
        )

    def ids(self, entry: Entry) -> tuple[Digest, ...]:
        """Name each image by its index or manifest."""
        layers = _layers(entry)
        return tuple(_target(entry, image, layers)[0] for image in entry.images)

    def stack_ids(self, image: Image) -> Sequence[Digest]:
        """Name stacks by their blobs: the same layer, compressed otherwise, is another blob."""
        return stack_ids(image.layers)

    def held(
        self, engine_images: Mapping[Digest, Sequence[Digest]], entries: Iterable[Entry]
    ) -> set[Digest]:
        """Tell the stacks of those images that entries describe: the engine does not name blobs."""
        return {
            stack
            for entry in entries
            for image, name in zip(entry.images, self.ids(entry), strict=True)
            if name in engine_images
            for stack in self.stack_ids(image)
        }

    def images(self, entry: Entry) -> tuple[Image, ...]:
        """List the images with a tag, and those that no other was built on."""
        parents = {image.parent for image in entry.images}
        return tuple(i for i in entry.images if i.tags or i.id not in parents)

    def describe(self, entry: Entry) -> tuple[Files, tuple[Digest, ...]]:
        """Write all documents of the images, and the index that names the images."""
        files: Files = {}
        roots: list[Descriptor] = []
        others: dict[Digest, None] = {}
        kept = entry.recipe_refs()
        layers = _layers(entry)
        for image in self.images(entry):
            target, media_type, documents, blobs = _target(entry, image, layers)
            files |= {blob_name(digest): data for digest, data in documents.items()}
            own = set(image.layers)
            others |= dict.fromkeys(d for d in blobs if d in kept and d not in own)
            size = len(documents[target])
            named: list[dict[str, str] | None] = [{NAME: _full_name(tag)} for tag in image.tags]
            roots += [Descriptor(media_type, target, size, name) for name in named or [None]]
        return _layout(files, roots), tuple(others)

    def describe_bare(
        self, stacks: Sequence[Stack], entries: Collection[Entry]
    ) -> tuple[Files, tuple[Digest, ...]]:
        """Write manifests and configs of bare images, and the index that names them."""
        layers = {digest: layer for entry in entries for digest, layer in _layers(entry).items()}
        files: Files = {}
        roots: list[Descriptor] = []
        for stack in stacks:
            config = bare_config(stack, next(iter(entries)).platform)
            manifest = write_manifest(
                Descriptor(OCI_CONFIG, digest_of(config), len(config)),
                [layers[layer] for layer in stack.layers],
            )
            files |= {blob_name(digest_of(data)): data for data in (config, manifest)}
            roots.append(Descriptor(OCI_MANIFEST, digest_of(manifest), len(manifest)))
        return _layout(files, roots), tuple(Digest(root.digest) for root in roots)


def _target(
    entry: Entry, image: Image, layers: Mapping[str, Descriptor]
) -> tuple[Digest, str, dict[Digest, bytes], Collection[Digest]]:
    """Tell what an image's id will be; its media type, its documents, and all of its blobs."""
    tree = None
    if image.id != image.config:  # which it is if the image came from a graphdriver store
        tree = image_tree(Digest(image.id), image.diff_ids, entry.documents)
    if tree is not None and [layer.digest for layer in tree.layers] == image.layers:
        documents = {digest: entry.documents[digest] for digest in tree.documents}
        return Digest(image.id), tree.documents[Digest(image.id)], documents, tree.blobs
    config = entry.documents[Digest(image.config)]
    manifest = write_manifest(
        Descriptor(OCI_CONFIG, image.config, len(config)),
        [layers[layer] for layer in image.layers],
    )
    documents = {digest_of(manifest): manifest, Digest(image.config): config}
    return digest_of(manifest), OCI_MANIFEST, documents, ()


def _layers(entry: Entry) -> dict[str, Descriptor]:
    return {
        blob.digest: Descriptor(
            OCI_LAYER if blob.media_type == LAYER else blob.media_type, blob.digest, blob.size
        )
        for blob in entry.blobs
    }


def _layout(files: Files, roots: Sequence[Descriptor]) -> Files:
    return {**files, INDEX_FILE: write_index(roots), LAYOUT_FILE[0]: LAYOUT_FILE[1]}


def _full_name(tag: str) -> str:
    try:
        return ImageReference.parse(tag).canonical
    except UsageError as error:
        raise CorruptData(f"an image of the entry has an impossible tag ({error})") from error
