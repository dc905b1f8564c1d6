"""Decide what an engine has to be sent, so that it has the images of entries.

This is for engines with a graphdriver store: a layer need not be in the archive if the engine has
its chain_id, and loads of several archives may run at the same time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from longshore.core.archive import ManifestItem, blob_name, manifest_json
from longshore.core.digests import Digest, chain_ids, digest_of
from longshore.core.entry import Entry, Image


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One archive to load.

    Attributes:
        files: its small members: configs and manifest.
        blobs: layers to send, in order, each once.
        skipped: layers that the engine has, or will have by then.
    """

    files: tuple[tuple[str, bytes], ...]
    blobs: tuple[Digest, ...]
    skipped: tuple[Digest, ...]


def plan_load(entry: Entry, chains: Collection[Digest]) -> LoadPlan:
    """Plan the archive with all images of an entry, for an engine that has some chain_ids."""
    items: list[ManifestItem] = []
    send: dict[Digest, None] = {}
    skipped: dict[Digest, None] = {}
    for image in entry.images:
        layers = [Digest(layer) for layer in image.layers]
        items.append(
            ManifestItem(
                config=Digest(image.config),
                tags=image.tags,
                layers=layers,
                parent=Digest(image.parent) if image.parent else None,
            )
        )
        for layer, chain in zip(layers, _chains(image), strict=True):
            (skipped if chain in chains else send)[layer] = None
    files = [(blob_name(item.config), entry.documents[item.config]) for item in items]
    return LoadPlan(
        files=(*dict(files).items(), ("manifest.json", manifest_json(items))),
        blobs=tuple(send),
        skipped=tuple(layer for layer in skipped if layer not in send),
    )


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """An archive of layers that several entries need, to be loaded before theirs.

    Attributes:
        images: ids of the images that hold the layers in the engine until the entries' own images
            do; to be removed afterwards.
        chains: the chain_ids that the engine will have.
    """

    load: LoadPlan
    images: tuple[Digest, ...]
    chains: frozenset[Digest]


def plan_shared(entries: Mapping[str, Entry], chains: Collection[Digest]) -> SharedPlan | None:
    """Plan a load of the layers that two or more entries need and the engine lacks.

    An engine keeps a layer only if an image has it, so each longest shared stack gets a bare image
    without tag, history or command.
    """
    platform = next(iter(entries.values())).platform if entries else ""
    users: Counter[Digest] = Counter()
    for entry in entries.values():
        users.update({c for image in entry.images for c in _chains(image)} - set(chains))
    shared = {chain for chain, count in users.items() if count > 1}
    if not shared:
        return None
    stacks: dict[tuple[str, ...], tuple[Digest, ...]] = {}
    for entry in entries.values():
        for image in entry.images:
            depth = sum(1 for chain in _chains(image) if chain in shared or chain in chains)
            if depth and _chains(image)[depth - 1] in shared:
                stacks[tuple(image.diff_ids[:depth])] = tuple(
                    Digest(layer) for layer in image.layers[:depth]
                )
    longest = [s for s in stacks if not any(o != s and o[: len(s)] == s for o in stacks)]
    items: list[ManifestItem] = []
    files: list[tuple[str, bytes]] = []
    send: dict[Digest, None] = {}
    for stack in longest:
        config = _bare_config(stack, platform)
        items.append(ManifestItem(digest_of(config), (), stacks[stack]))
        files.append((blob_name(digest_of(config)), config))
        for layer, chain in zip(stacks[stack], chain_ids([Digest(d) for d in stack]), strict=True):
            if chain not in chains:
                send[layer] = None
    files.append(("manifest.json", manifest_json(items)))
    return SharedPlan(
        load=LoadPlan(tuple(files), tuple(send), ()),
        images=tuple(item.config for item in items),
        chains=frozenset(shared),
    )


def missing_images(entry: Entry, present: Mapping[Digest, Digest | None]) -> tuple[Image, ...]:
    """List the images of an entry that an engine lacks, or has without their parent.

    Args:
        present: the parent of every image that the engine has.
    """
    return tuple(
        image
        for image in entry.images
        if image.id not in present
        or (image.parent is not None and present[Digest(image.id)] != image.parent)
    )


def _chains(image: Image) -> Sequence[Digest]:
    return chain_ids([Digest(diff_id) for diff_id in image.diff_ids])


def _bare_config(diff_ids: Sequence[str], platform: str) -> bytes:
    system, _, rest = platform.partition("-")
    return msgspec.json.encode(
        {
            "architecture": rest.partition("-")[0],
            "os": system,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": [],
        }
    )
