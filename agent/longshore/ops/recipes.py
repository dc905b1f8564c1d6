"""Read the recipes of blobs, as far as there is room for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from longshore.core.digests import Digest
from longshore.core.entry import Entry
from longshore.core.keys import Ref, entry_key
from longshore.core.read_plan import weigh
from longshore.core.recipe import Recipe
from longshore.errors import CorruptData, LongshoreError, NotCached, TooLarge, kept
from longshore.ops.rebuilding import GAP_BYTES, RANGE_BYTES
from longshore.ops.room import READ_AT_ONCE
from longshore.ops.tasks import for_each

if TYPE_CHECKING:
    from longshore.ops.reachable import Reading

_CHUNK_BYTES = 300  # measured; that is without the plan of its reads


async def read_recipes(
    reading: Reading, refs: Collection[Ref]
) -> dict[Ref, Recipe | LongshoreError]:
    """Read recipes to keep them; those that cannot be used come as their error."""

    async def read(ref: Ref) -> Recipe | LongshoreError:
        try:
            recipe = await reading.read_recipe(ref)
            reading.room.take(sum(map(len, recipe.streams)) * _CHUNK_BYTES)
        except (CorruptData, NotCached) as error:
            return kept(error)
        return recipe

    recipes = await for_each(read, refs, at_once=READ_AT_ONCE)
    return dict(zip(refs, recipes, strict=True))


async def recipes_for(
    reading: Reading, entry: Entry, blobs: Iterable[Digest]
) -> dict[Digest, Recipe]:
    """Read the recipes of blobs of an entry, to load them; all of them are needed.

    Raises:
        UnsupportedFormat: a newer longshore wrote one.
        TooLarge: the blobs hold more, or their recipes need more memory, than is allowed.
        CorruptData: one is missing, damaged, or not kept by the entry.
    """
    wanted, refs = list(blobs), entry.recipe_refs()
    key = entry_key(entry.project, entry.scope, entry.service, entry.platform, entry.id)
    url = reading.store.url(key)
    if lacking := [blob for blob in wanted if blob not in refs]:
        raise CorruptData(f"{url} does not keep the layer {lacking[0]}")
    sizes = {Digest(blob.digest): blob.size for blob in entry.blobs}
    total, limit = sum(sizes[blob] for blob in wanted), reading.max_image_bytes
    if limit is not None and total > limit:
        raise TooLarge(
            f"{url}: its layers hold {total:,} bytes, more than the {limit:,} that"
            " --max-image-size allows"
        )
    taken = 0

    async def read(blob: Digest) -> Recipe:
        nonlocal taken
        recipe = await reading.read_recipe(refs[blob])
        if recipe.size_bytes != sizes[blob]:
            raise CorruptData(
                f"{reading.store.url(refs[blob].key(reading.project))} is for"
                f" {recipe.size_bytes:,} bytes, and its entry says {sizes[blob]:,}"
            )
        try:
            reading.room.take(_held_bytes(recipe))
        except TooLarge as error:
            raise TooLarge(f"{url}: {error}") from None
        taken += _held_bytes(recipe)
        return recipe

    try:
        recipes = await for_each(read, wanted, at_once=READ_AT_ONCE)
    except BaseException:
        reading.room.give_back(taken)
        raise
    return dict(zip(wanted, recipes, strict=True))


def _held_bytes(recipe: Recipe) -> int:
    return weigh(recipe, max_range_bytes=RANGE_BYTES, max_gap_bytes=GAP_BYTES)
