"""Compare two images of one service: the one in the engine, and the one in the cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Literal

from msgspec import Struct

from longshore.core.digests import Digest
from longshore.core.history import command_of, layers_of
from longshore.core.images import Step

State = Literal["same", "changed", "rebuilt", "only in engine", "only in cache"]
"""`rebuilt`: the same command made another layer. `changed`: another command in its place."""

_MAX_STEPS = 400  # aligning can take its cube; images have less than 200


class Side(Struct, frozen=True):
    """One of the two images; everything is base first."""

    id: str
    tags: tuple[str, ...]
    diff_ids: tuple[Digest, ...]
    steps: tuple[Step, ...]


class ComparedStep(Struct, frozen=True):
    """A step of either image, beside its counterpart in the other.

    Attributes:
        engine_number: which of the engine image's steps it is, from 1 on.
        engine_layer: the diff_id that it made; `None` if it made none, or nobody can tell.
    """

    state: State
    engine_number: int | None
    cached_number: int | None
    engine_command: str | None
    cached_command: str | None
    engine_layer: Digest | None
    cached_layer: Digest | None


class ComparedLayer(Struct, frozen=True):
    """The layers of both images at one height of the stack, by diff_id.

    Attributes:
        same: this layer and all below it are the same, so both have the same chain_id here.
        size_bytes: of the cached layer, or of the engine's if the cache has that one, too.
    """

    engine: Digest | None
    cached: Digest | None
    same: bool
    size_bytes: int | None


class ImageComparison(Struct, frozen=True):
    """What two images have in common, and where they part.

    Attributes:
        identical: they have the same id.
        common_layers: how many layers they share, from the base on.
        parts_at: index in `steps` of the first that is not the same; `None` if all are.
        verdict: the whole in a few words.
        tags: those of both.
    """

    identical: bool
    verdict: str
    engine_id: str
    cached_id: str
    common_layers: int
    parts_at: int | None
    layers: tuple[ComparedLayer, ...]
    steps: tuple[ComparedStep, ...]
    tags: tuple[str, ...]
    tags_only_in_engine: tuple[str, ...]
    tags_only_in_cache: tuple[str, ...]


class _Pair(Struct, frozen=True):
    engine: int | None
    cached: int | None


class _Layers(Struct, frozen=True):
    """The layer of each step; all `None` where that is not known."""

    engine: Sequence[Digest | None]
    cached: Sequence[Digest | None]
    known: bool


def compare_images(
    engine: Side, cached: Side, sizes: Mapping[Digest, int], *, same_kind_of_id: bool = True
) -> ImageComparison:
    """Compare an engine's image with the cached one.

    Args:
        sizes: of layers, in bytes, by diff_id, as far as they are known.
        same_kind_of_id: both ids come from the same kind of image store. Others name other
            documents, so they differ for the same image.
    """
    layers = tuple(_compare_layers(engine.diff_ids, cached.diff_ids, sizes))
    common = sum(layer.same for layer in layers)
    steps = _compare_steps(engine, cached)
    parts_at = next((i for i, step in enumerate(steps) if step.state != "same"), None)
    identical = same_kind_of_id and engine.id == cached.id
    if identical:
        verdict = "identical"
    elif common < len(layers):
        verdict = f"part at {_place(steps, parts_at, engine, cached, common)}"
    elif parts_at is not None:
        verdict = (
            f"same layers, other config: part at {_place(steps, parts_at, engine, cached, common)}"
        )
    elif same_kind_of_id:
        verdict = "same layers, other config"
    else:
        verdict = "same layers and steps"
    return ImageComparison(
        identical=identical,
        verdict=verdict,
        engine_id=engine.id,
        cached_id=cached.id,
        common_layers=common,
        parts_at=parts_at,
        layers=layers,
        steps=steps,
        tags=tuple(sorted({*engine.tags} & {*cached.tags})),
        tags_only_in_engine=tuple(sorted({*engine.tags} - {*cached.tags})),
        tags_only_in_cache=tuple(sorted({*cached.tags} - {*engine.tags})),
    )


def _compare_layers(
    engine: Sequence[Digest], cached: Sequence[Digest], sizes: Mapping[Digest, int]
) -> Iterator[ComparedLayer]:
    same = True
    for ours, theirs in zip_longest(engine, cached):
        same = same and ours == theirs
        size = sizes.get(theirs) if theirs else None
        if size is None and ours:
            size = sizes.get(ours)
        yield ComparedLayer(ours, theirs, same, size)


def _compare_steps(engine: Side, cached: Side) -> tuple[ComparedStep, ...]:
    pairs = list(_align(engine.steps, cached.steps))
    cached_layers = layers_of(cached.steps, cached.diff_ids)
    hints = {
        pair.engine
        for pair in pairs
        if pair.engine is not None
        and pair.cached is not None
        and cached_layers[pair.cached] is not None
        and engine.steps[pair.engine].created_by == cached.steps[pair.cached].created_by
    }
    engine_layers = layers_of(engine.steps, engine.diff_ids, hints=hints)
    layers = _Layers(engine_layers, cached_layers, any(engine_layers) and any(cached_layers))
    return tuple(_compare_step(pair, engine.steps, cached.steps, layers) for pair in pairs)


def _align(engine: Sequence[Step], cached: Sequence[Step]) -> Iterator[_Pair]:
    """Put steps with the same command side by side; what stands between them, in order."""
    if max(len(engine), len(cached)) > _MAX_STEPS:
        for ours, theirs in zip_longest(range(len(engine)), range(len(cached))):
            yield _Pair(ours, theirs)
        return
    matcher = SequenceMatcher(
        None,
        [step.created_by for step in engine],
        [step.created_by for step in cached],
        autojunk=False,
    )
    for _, start, end, cached_start, cached_end in matcher.get_opcodes():
        for ours, theirs in zip_longest(range(start, end), range(cached_start, cached_end)):
            yield _Pair(ours, theirs)


def _compare_step(
    pair: _Pair, engine: Sequence[Step], cached: Sequence[Step], layers: _Layers
) -> ComparedStep:
    ours = None if pair.engine is None else engine[pair.engine]
    theirs = None if pair.cached is None else cached[pair.cached]
    our_layer = None if pair.engine is None else layers.engine[pair.engine]
    their_layer = None if pair.cached is None else layers.cached[pair.cached]
    state: State
    if theirs is None:
        state = "only in engine"
    elif ours is None:
        state = "only in cache"
    elif ours.created_by != theirs.created_by:
        state = "changed"
    else:
        state = "rebuilt" if layers.known and our_layer != their_layer else "same"
    return ComparedStep(
        state=state,
        engine_number=None if pair.engine is None else pair.engine + 1,
        cached_number=None if pair.cached is None else pair.cached + 1,
        engine_command=command_of(ours) if ours else None,
        cached_command=command_of(theirs) if theirs else None,
        engine_layer=our_layer,
        cached_layer=their_layer,
    )


def _place(
    steps: Sequence[ComparedStep], index: int | None, engine: Side, cached: Side, common: int
) -> str:
    if index is None:
        highest = max(len(engine.diff_ids), len(cached.diff_ids))
        return f"layer {common + 1} of {highest}"
    step = steps[index]
    if step.engine_number is not None:
        return f"step {step.engine_number} of {len(engine.steps)}: {step.engine_command}"
    number = f"step {step.cached_number} of {len(cached.steps)} in the cache"
    return f"{number}: {step.cached_command}"
