"""Decide how much of a chain of images the next build can still use, and cut an entry down to it.

The rule above all: what may be a hit stays. So an entry is cut only where a step is certainly
another one, and only if its images are the classic builder's, each built on the one before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from longshore.core.digests import Digest
from longshore.core.dockerfile import Dockerfile, Instruction, Stage, Unclear
from longshore.core.entry import Entry, Image
from longshore.core.images import ImageConfig, decode_json
from longshore.core.references import ImageReference
from longshore.core.step_matching import differs, is_label
from longshore.core.tags import partial_name
from longshore.errors import UsageError

_SHOWN = 60


class _Runtime(Struct):
    OnBuild: list[str] | None = None
    WorkingDir: str = ""


class _Config(Struct):
    config: _Runtime | None = None


class Chain(Struct, frozen=True):
    """A service's own image and those that it was built on, base first."""

    images: tuple[Image, ...]
    configs: tuple[ImageConfig, ...]


class CopyStep(Struct, frozen=True):
    """A step that copies, as it stands in the Dockerfile.

    Attributes:
        index: of its image in the chain.
    """

    index: int
    instruction: Instruction


class Alignment(Struct, frozen=True):
    """A stage beside a chain.

    Attributes:
        base: index of the base image in the chain.
        end: index of the first image that the texts alone rule out; the length if none does.
        reason: why that one is.
        copies: steps before it whose files decide, too.
    """

    base: int
    end: int
    reason: str
    copies: tuple[CopyStep, ...]


class Left(Struct, frozen=True):
    """What of a service is not loaded, since its next build cannot use it.

    Attributes:
        reason: what has changed.
        size_bytes: of the layers that are not loaded.
        steps: of the build, its base image not counted; 0 if nothing of the image is loaded.
        left_out: how many of these are not loaded.
    """

    reason: str
    size_bytes: int
    steps: int = 0
    left_out: int = 0


def chain_of(entry: Entry) -> Chain:
    """Find the chain of the service's own image.

    Raises:
        Unclear: its images were not built step by step.
    """
    by_id = {image.id: image for image in entry.images}
    images: list[Image] = []
    following: str | None = entry.images[0].id if entry.images else None
    while following is not None and len(images) < len(entry.images):
        images.append(by_id[following])
        following = by_id[following].parent
    if following is not None or len(images) < 2:
        raise Unclear("its image was stored without the images that it was built on")
    images.reverse()
    configs = tuple(entry.config(image) for image in images)
    for parent, config, image, below in zip(configs, configs[1:], images[1:], images, strict=False):
        grown = len(config.diff_ids) - len(parent.diff_ids)
        if (
            not config.was_built_on(parent)
            or not config.history
            or config.diff_ids[: len(parent.diff_ids)] != parent.diff_ids
            or grown not in (0, 1)
            or grown == config.history[-1].empty_layer
            or image.layers[: len(below.layers)] != below.layers
        ):
            raise Unclear("its image was not built step by step")
    return Chain(tuple(images), configs)


def align(
    entry: Entry,
    chain: Chain,
    dockerfile: Dockerfile,
    target: str | None,
    bases: Mapping[str, Collection[Digest]],
) -> tuple[Alignment, ...]:
    """Put every stage that the chain may come from beside it.

    Args:
        bases: which images a tag may stand for when the build begins, by their configs.

    Raises:
        Unclear: the chain cannot be compared with the stage that will be built.
    """
    wanted = dockerfile.target(target)
    found: list[Alignment] = []
    for index in range(len(dockerfile.stages)):
        stage = dockerfile.flattened(index)
        try:
            base = _find_base(chain, stage, bases)
        except Unclear:
            if index == wanted:
                raise
            continue  # a chain on another base is another stage's
        if _runtime(entry, chain.images[base]).OnBuild:
            raise Unclear("its base image has steps of its own for builds")
        found.append(_align(chain, stage, base))
    return tuple(found)


def working_folder(entry: Entry, chain: Chain, index: int) -> str:
    """Tell in which folder a step of the chain ran."""
    return _runtime(entry, chain.images[index - 1]).WorkingDir


def cut(
    entry: Entry, chain: Chain, base: int, end: int, reason: str, own: Collection[ImageReference]
) -> tuple[Entry, Left]:
    """Leave out the images of a chain from one on, but for what other images need.

    The last one that is left gets a name for builds to ask for. It must not get the service's own:
    whoever starts the service without a build would run half an image.
    """
    left = chain.images[end - 1]
    names = [
        partial_name(reference) for reference in own if reference.familiar in chain.images[-1].tags
    ]
    by_id = {image.id: image for image in entry.images}
    kept: dict[str, None] = {}
    for image in (left, *entry.images):
        if (
            image is left
            or (image.tags and image.id != chain.images[-1].id)
            or _is_stage(entry, image)
        ):
            following: str | None = image.id
            while following is not None and following not in kept:
                kept[following] = None
                following = by_id[following].parent
    images = []
    for image_id in kept:
        image = by_id[image_id]
        if image is left and end - 1 > base:
            image = msgspec.structs.replace(image, tags=[*image.tags, *filter(None, names)])
        images.append(image)
    layers = {layer for image in images for layer in image.layers}
    blobs = tuple(blob for blob in entry.blobs if blob.digest in layers)
    gone = {layer for image in chain.images for layer in image.layers} - layers
    return replace(entry, images=tuple(images), blobs=blobs), Left(
        reason=reason,
        size_bytes=sum(blob.size for blob in entry.blobs if blob.digest in gone),
        steps=len(chain.images) - base - 1,
        left_out=len(chain.images) - end,
    )


def _is_stage(entry: Entry, image: Image) -> bool:
    """Tell whether an image is nobody's parent, and not the service's own."""
    return image.id != entry.images[0].id and all(i.parent != image.id for i in entry.images)


def _find_base(chain: Chain, stage: Stage, bases: Mapping[str, Collection[Digest]]) -> int:
    if stage.base is None:
        raise Unclear("its base image comes from build arguments or a platform")
    try:
        name = ImageReference.parse(stage.base).familiar
    except UsageError:
        raise Unclear("its base image cannot be told") from None
    may_be = bases.get(name, ())
    for index in range(len(chain.images) - 2, -1, -1):
        image = chain.images[index]
        if name in image.tags:
            if set(may_be) != {image.config}:
                raise Unclear(f"its base image {name} may be another one")
            return index
        if image.tags and stage.varies:
            break
    raise Unclear(f"its image was not built on {name}")


def _align(chain: Chain, stage: Stage, base: int) -> Alignment:
    copies: list[CopyStep] = []
    places = range(base + 1, len(chain.images))
    for number, index in enumerate(places):
        step = chain.configs[index].history[-1]
        if number >= len(stage.instructions):
            if is_label(step):  # perhaps of the command line
                continue
            return Alignment(base, index, "the Dockerfile ends earlier", tuple(copies))
        instruction = stage.instructions[number]
        if differs(instruction, step):
            return Alignment(base, index, f"{_shown(instruction)} is new", tuple(copies))
        copying = instruction.keyword in ("COPY", "ADD")
        if copying and len(chain.configs[index].diff_ids) > len(chain.configs[index - 1].diff_ids):
            copies.append(CopyStep(index, instruction))
    return Alignment(base, len(chain.images), "", tuple(copies))


def _shown(instruction: Instruction) -> str:
    text = f"{instruction.keyword} {instruction.text}"
    short = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return f"line {instruction.line} of the Dockerfile ({short})"


def _runtime(entry: Entry, image: Image) -> _Runtime:
    data = entry.documents[Digest(image.config)]
    return decode_json(data, _Config, "config").config or _Runtime()


def tags_of(entries: Collection[Entry]) -> Iterator[tuple[str, Digest]]:
    """List all tags of entries, and the configs of their images."""
    for entry in entries:
        for image in entry.images:
            for tag in image.tags:
                yield tag, Digest(image.config)
