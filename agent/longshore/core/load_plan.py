"""Decide what an engine has to be sent, so that it has the images of entries.

A layer need not be sent if the engine has the stack that ends with it. How an archive names images
and layers differs by image store; that is the part of a `LoadForm`. Loads of several archives may
run at the same time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from longshore.core.digests import Digest, chain_ids
from longshore.core.entry import Entry, Image

Files = dict[str, bytes]


class Expected(Struct, frozen=True):
    """An image that the engine has to have in the end.

    Attributes:
        id: as that engine names it.
        parent: likewise; `None` if that engine cannot be told.
    """

    id: Digest
    tags: tuple[str, ...]
    parent: Digest | None


class Stack(Struct, frozen=True):
    """Some layers of an image, base first: their diff_ids, and the blobs that hold them."""

    diff_ids: tuple[str, ...]
    layers: tuple[str, ...]


class LoadForm(ABC):
    """How images are sent to engines of one kind of image store."""

    @abstractmethod
    def expected(self, entry: Entry) -> tuple[Expected, ...]:
        """List the images of an entry as the engine will name them."""

    @abstractmethod
    def ids(self, entry: Entry) -> tuple[Digest, ...]:
        """Tell what the engine calls each image of an entry, whether it is sent or not."""

    @abstractmethod
    def stack_ids(self, image: Image) -> Sequence[Digest]:
        """Name each stack of an image's layers, from the base on, as this form tells them apart."""

    @abstractmethod
    def held(
        self, engine_images: Mapping[Digest, Sequence[Digest]], entries: Iterable[Entry]
    ) -> set[Digest]:
        """Tell which stacks of layers an engine is known to have.

        Args:
            engine_images: diff_ids of the images that it has, by id.
        """

    @abstractmethod
    def images(self, entry: Entry) -> tuple[Image, ...]:
        """List the images of an entry that are worth sending."""

    @abstractmethod
    def describe(self, entry: Entry) -> tuple[Files, tuple[Digest, ...]]:
        """Write the small members of an archive of those images.

        Returns:
            The members, and the blobs that the images need besides their layers.
        """

    @abstractmethod
    def describe_bare(
        self, stacks: Sequence[Stack], entries: Collection[Entry]
    ) -> tuple[Files, tuple[Digest, ...]]:
        """Write the small members of an archive of bare images, one for each stack.

        Returns:
            The members, and the ids that the engine gives the images.
        """


class LoadPlan(Struct, frozen=True):
    """One archive to load.

    Attributes:
        files: its small members.
        blobs: layers to send, in order, each once.
        skipped: layers that the engine has, or will have by then.
    """

    files: tuple[tuple[str, bytes], ...]
    blobs: tuple[Digest, ...]
    skipped: tuple[Digest, ...]


def plan_load(form: LoadForm, entry: Entry, held: Collection[Digest]) -> LoadPlan:
    """Plan the archive with the images of an entry, for an engine that has some stacks."""
    send: dict[Digest, None] = {}
    skipped: dict[Digest, None] = {}
    for image in form.images(entry):
        for layer, stack in zip(image.layers, form.stack_ids(image), strict=True):
            (skipped if stack in held else send)[Digest(layer)] = None
    files, others = form.describe(entry)
    send.update(dict.fromkeys(others))
    return LoadPlan(
        files=tuple(files.items()),
        blobs=tuple(send),
        skipped=tuple(layer for layer in skipped if layer not in send),
    )


class SharedPlan(Struct, frozen=True):
    """An archive of layers that several entries need, to be loaded before theirs.

    Attributes:
        images: ids of the images that hold the layers in the engine until the entries' own images
            do; to be removed afterwards.
        stacks: those that the engine will have.
    """

    load: LoadPlan
    images: tuple[Digest, ...]
    stacks: frozenset[Digest]


def plan_shared(
    form: LoadForm, entries: Mapping[str, Entry], held: Collection[Digest]
) -> SharedPlan | None:
    """Plan a load of the layers that two or more entries need and the engine lacks.

    An engine keeps a layer only if an image has it, so each longest shared stack gets a bare image
    without tag, history or command.
    """
    users: Counter[Digest] = Counter()
    for entry in entries.values():
        used = {stack for image in form.images(entry) for stack in form.stack_ids(image)}
        users.update(used.difference(held))
    shared = {stack for stack, count in users.items() if count > 1}
    if not shared:
        return None
    tops: dict[Digest, Sequence[Digest]] = {}
    found: dict[Digest, tuple[str, str]] = {}  # diff_id and blob of the layer that ends a stack
    for entry in entries.values():
        for image in form.images(entry):
            ids = form.stack_ids(image)
            depth = sum(1 for stack in ids if stack in shared or stack in held)
            if depth and ids[depth - 1] in shared:
                tops[ids[depth - 1]] = ids[:depth]
                layers = zip(ids[:depth], image.diff_ids, image.layers, strict=False)
                # Entries may keep one layer in two forms; one of them is enough.
                for stack, diff_id, layer in layers:
                    found.setdefault(stack, (diff_id, layer))
    below = {stack for ids in tops.values() for stack in ids[:-1]}
    longest = [ids for top, ids in tops.items() if top not in below]
    send = {Digest(found[stack][1]): None for ids in longest for stack in ids if stack not in held}
    stacks = [
        Stack(tuple(found[stack][0] for stack in ids), tuple(found[stack][1] for stack in ids))
        for ids in longest
    ]
    files, images = form.describe_bare(stacks, tuple(entries.values()))
    return SharedPlan(LoadPlan(tuple(files.items()), tuple(send), ()), images, frozenset(shared))


def missing_images(
    expected: Iterable[Expected], present: Mapping[Digest, Digest | None]
) -> tuple[Expected, ...]:
    """List the images that an engine lacks, or has without their parent.

    Args:
        present: the parent of every image that the engine has.
    """
    return tuple(
        image
        for image in expected
        if image.id not in present
        or (image.parent is not None and present[image.id] != image.parent)
    )


def bare_config(stack: Stack, platform: str) -> bytes:
    """Write the config of an image that only holds layers."""
    system, _, rest = platform.partition("-")
    return msgspec.json.encode(
        {
            "architecture": rest.partition("-")[0],
            "os": system,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": list(stack.diff_ids)},
            "history": [],
        }
    )


def stack_ids(digests: Sequence[str]) -> tuple[Digest, ...]:
    """Name each stack of some digests; of diff_ids, that is the chain_id."""
    return chain_ids([Digest(digest) for digest in digests])
