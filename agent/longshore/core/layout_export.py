"""What an export takes from an engine with a containerd store, and how entries describe it.

Such an engine tells an image's id and diff_ids, but not its documents and blobs: those are known if
an entry has the image, and otherwise when the archive has passed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from longshore.core.digests import Digest
from longshore.core.entry import Blob, Image
from longshore.core.export_plan import EngineImage, EntryContents, SavePlan
from longshore.core.keys import Ref
from longshore.core.layout import Descriptor, ImageTree, image_tree
from longshore.errors import CorruptData, EngineError


def plan_layout_save(
    images: Collection[EngineImage],
    have_blobs: Collection[Digest],
    have_documents: Mapping[Digest, bytes],
) -> SavePlan:
    """Choose the images to save: those of which a document or a blob is not stored yet."""

    def is_stored(image: EngineImage) -> bool:
        try:
            tree = image_tree(image.id, image.diff_ids, have_documents)
        except CorruptData:
            return False  # what some scope holds under this digest is of no use
        return tree is not None and all(blob in have_blobs for blob in tree.blobs)

    return SavePlan(tuple(dict.fromkeys(i.id for i in images if not is_stored(i))))


def describe_layout_images(
    chain: Sequence[EngineImage],
    documents: Mapping[Digest, bytes],
    blobs: Mapping[Digest, tuple[Ref, int]],
) -> EntryContents:
    """Write down a service's images, its own first, as an entry holds them.

    Args:
        documents: at least those of every image.
        blobs: recipe and size in bytes of at least every blob that the images need.

    Raises:
        EngineError: the documents do not lead to the layers that the engine named.
    """
    ids = {image.id for image in chain}
    images: list[Image] = []
    trees: list[ImageTree] = []
    needed: dict[Digest, Descriptor] = {}
    for image in chain:
        tree = image_tree(image.id, image.diff_ids, documents)
        if tree is None:
            raise EngineError(f"the engine's image {image.id} has other layers than its manifest")
        trees.append(tree)
        needed |= tree.blobs
        images.append(
            Image(
                id=image.id,
                config=tree.config,
                tags=list(image.tags),
                parent=image.parent if image.parent in ids else None,
                diff_ids=list(image.diff_ids),
                layers=[layer.digest for layer in tree.layers],
            )
        )
    refs = {ref: number for number, ref in enumerate(dict.fromkeys(blobs[d][0] for d in needed))}
    media_types = {digest: kind for tree in trees for digest, kind in tree.documents.items()}
    return EntryContents(
        documents={digest: documents[digest] for digest in media_types},
        media_types=media_types,
        images=tuple(images),
        blobs=tuple(
            Blob(digest, blobs[digest][1], descriptor.media_type, refs[blobs[digest][0]])
            for digest, descriptor in needed.items()
        ),
        refs=tuple(refs),
    )
