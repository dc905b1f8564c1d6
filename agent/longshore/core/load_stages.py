"""Decide into how many archives an entry is divided, so that its engine unpacks while it is sent.

An engine unpacks nothing before it has the whole of an archive (moby 28, `image/tarexport/load.go`
and `daemon/containerd/image_exporter.go`). Of two archives it unpacks the first one while it takes
the second, and it takes a layer several times faster than it unpacks it: about 200 MB/s against
40 to 70 MB/s in small files, with engine 28.5.2 and the agent on two cores. So each archive may be
some times as large as the one before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct

from longshore.core.digests import Digest
from longshore.core.entry import Entry
from longshore.core.load_plan import LoadForm, LoadPlan, Stack, plan_load

LEAST_BYTES = 64 << 20  # of layers: below that, what another archive costs is more than it gives
_FIRST = 12  # the first archive has at least this part of all bytes, and so has the last
_GROWTH = 4


class LoadStages(Struct, frozen=True):
    """Archives to load one after the other; each needs what the one before brought.

    Attributes:
        loads: the last one brings the entry's images, those before only layers.
        images: ids of the images that hold these layers until then; to be removed afterwards.
    """

    loads: tuple[LoadPlan, ...]
    images: tuple[Digest, ...]


def plan_stages(
    form: LoadForm, entry: Entry, held: Collection[Digest], sizes: Mapping[Digest, int]
) -> LoadStages:
    """Plan the archives with the images of an entry, for an engine that has some stacks.

    Args:
        sizes: of the blobs that the engine lacks, in bytes as they are sent.
    """
    have = set(held)
    loads: list[LoadPlan] = []
    holding: list[Digest] = []
    images = form.images(entry)
    tallest = max(images, key=lambda image: len(image.layers), default=None)
    if tallest is not None:
        ids = form.stack_ids(tallest)
        layers = [Digest(layer) for layer in tallest.layers]
        sent = [
            0 if stack in have else sizes.get(layer, 0)
            for layer, stack in zip(layers, ids, strict=True)
        ]
        for height in _heights(sent):
            stack = Stack(tuple(tallest.diff_ids[:height]), tuple(tallest.layers[:height]))
            files, bare = form.describe_bare([stack], (entry,))
            blobs = {layers[n]: None for n in range(height) if ids[n] not in have}
            loads.append(LoadPlan(tuple(files.items()), tuple(blobs), ()))
            holding += bare
            have.update(ids[:height])
    loads.append(plan_load(form, entry, have))
    return LoadStages(tuple(loads), tuple(holding))


def _heights(sent: list[int]) -> list[int]:
    """Tell how many layers, from the base on, each archive but the last one completes.

    Args:
        sent: bytes to be sent of each layer, base first.
    """
    total = sum(sent)
    heights: list[int] = []
    if total < LEAST_BYTES:
        return heights
    least = total // _FIRST
    wanted, here, left = least, 0, total
    for height, size in enumerate(sent, 1):
        here += size
        left -= size
        if here >= wanted and left >= least:
            heights.append(height)
            wanted, here = here * _GROWTH, 0
    return heights
