"""Rewrite packs of which little is still needed.

Whoever reads or builds on the old packs is not disturbed: they stay until two further runs have
found that nothing refers to them, and their clocks begin anew before the first recipe is replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from longshore.core.documents import MAX_STORED_DOCUMENT_BYTES
from longshore.core.gc_documents import ObjectName, is_recipe, object_key
from longshore.core.ids import new_id
from longshore.core.keys import Ref
from longshore.core.read_plan import group_chunks
from longshore.core.rebuilding import open_chunk
from longshore.core.recipe import Chunk, Recipe, decode_recipe, encode_recipe
from longshore.core.repack_plan import UsedRanges, add_ranges, choose_packs, chunks_in, moved
from longshore.errors import CorruptData, NotCached
from longshore.ops.inventory import READ_AT_ONCE, References
from longshore.ops.packing import PackWriter
from longshore.ops.prune_run import PruneRun
from longshore.ops.report import Report
from longshore.ops.tasks import for_each
from longshore.store.contract import Store

REPLACE_SHARE = 8  # of the grace period: recipes are replaced only by a run as young as that
_RANGE_BYTES = 8 << 20
_GAP_BYTES = 128 << 10
_UPLOADS_AT_ONCE = 4


class RepackPlan(Struct, frozen=True):
    """What is rewritten.

    Attributes:
        packs: the old ones.
        needed_bytes: what is left of them, and goes into new ones.
        freed_bytes: what is freed once the old ones are gone.
    """

    packs: tuple[ObjectName, ...] = ()
    recipes: tuple[ObjectName, ...] = ()
    needed_bytes: int = 0
    freed_bytes: int = 0


class Repacker:
    """Plan and rewrite for one run."""

    def __init__(
        self,
        store: Store,
        project: str,
        report: Report,
        *,
        random: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._project = project
        self._report = report
        self._random = random
        self._sizes: Mapping[ObjectName, int] = {}

    async def plan(
        self,
        references: References,
        reached: Collection[ObjectName],
        sizes: Mapping[ObjectName, int],
        *,
        below: float,
    ) -> RepackPlan:
        """Choose packs by what recipes that stay need of them.

        Args:
            reached: the recipes and packs that entries which stay reach.
            below: the share of a pack that has to be needed.
        """
        self._sizes = sizes
        recipes = sorted(name for name in reached if is_recipe(name))
        spared = {pack for refs in references.of_entries.values() for pack in refs}
        ranges: dict[ObjectName, UsedRanges] = {}
        packs_of: dict[ObjectName, frozenset[ObjectName]] = {}

        async def add(name: ObjectName) -> None:
            recipe = await self._read(name)
            if recipe is None:
                spared.update(references.of_recipes.get(name, ()))
            else:
                packs_of[name] = add_ranges(ranges, recipe)

        await for_each(add, recipes, at_once=READ_AT_ONCE)
        chosen = choose_packs(ranges, sizes, spared, below=below)
        needed = sum(chosen.values())
        return RepackPlan(
            packs=tuple(chosen),
            recipes=tuple(
                name for name in recipes if not chosen.keys().isdisjoint(packs_of.get(name, ()))
            ),
            needed_bytes=needed,
            freed_bytes=sum(sizes[name] for name in chosen) - needed,
        )

    async def rewrite(self, run: PruneRun, plan: RepackPlan) -> None:
        """Write new packs, note down that the old ones' clocks begin anew, and replace recipes.

        A failure leaves recipes that name old packs, and others that name new ones; both are right.

        Raises:
            StoreError: the store failed, or the run is too old to replace anything.
        """
        chunks: dict[ObjectName, set[Chunk]] = {}

        async def collect(name: ObjectName) -> None:
            recipe = await self._read(name)
            if recipe is not None:
                for pack, chunk in chunks_in(recipe, plan.packs):
                    if chunk.offset + chunk.stored_bytes <= self._sizes[pack]:  # else a lie
                        chunks.setdefault(pack, set()).add(chunk)

        await for_each(collect, plan.recipes, at_once=READ_AT_ONCE)
        places: dict[Chunk, Chunk] = {}
        by_scope: dict[str, list[set[Chunk]]] = {}
        for found in chunks.values():
            by_scope.setdefault(next(iter(found)).pack.scope, []).append(found)
        for scope, packs in by_scope.items():
            await self._copy(run, scope, packs, places)
        await run.note("removed", plan.packs)

        async def replace(name: ObjectName) -> None:
            old = await self._read(name)
            if old is None:
                return
            new = moved(old, places)
            if new != old:
                data = await asyncio.to_thread(encode_recipe, new)
                await run.put(object_key(self._project, name), data, share=REPLACE_SHARE)

        await for_each(replace, plan.recipes, at_once=READ_AT_ONCE)

    async def _copy(
        self,
        run: PruneRun,
        scope: str,
        old: Sequence[set[Chunk]],
        places: dict[Chunk, Chunk],
    ) -> None:
        """Copy what is needed of some packs of a scope into new packs of that scope."""
        now = await self._store.now()
        copied: dict[bytes, Chunk] = {}
        async with PackWriter(
            self._store,
            project=self._project,
            scope=scope,
            make_id=lambda: new_id(now, self._random(10)),
            concurrency=_UPLOADS_AT_ONCE,
            sent=lambda _: None,
        ) as packs:
            for chunks in old:
                await run.check_age(REPLACE_SHARE)
                for group in group_chunks(
                    chunks, max_range_bytes=_RANGE_BYTES, max_gap_bytes=_GAP_BYTES
                ):
                    for chunk, stored in await self._sound(group):
                        if chunk.id not in copied:
                            pack, offset = await packs.add(stored)
                            copied[chunk.id] = replace(chunk, pack=pack, offset=offset)
                        places[chunk] = copied[chunk.id]
            await packs.finish()

    async def _sound(self, chunks: Sequence[Chunk]) -> list[tuple[Chunk, bytes]]:
        """Read neighbours in a pack, and return those that are what recipes say."""
        start = chunks[0].offset
        length = max(chunk.offset + chunk.stored_bytes for chunk in chunks) - start
        data = bytearray()
        try:
            await self._store.read(chunks[0].pack.key(self._project), start, length, data)
        except CorruptData as error:
            self._report.warn(error)
            return []
        return await asyncio.to_thread(self._check, chunks, data, start)

    def _check(
        self, chunks: Sequence[Chunk], data: bytearray, start: int
    ) -> list[tuple[Chunk, bytes]]:
        sound: list[tuple[Chunk, bytes]] = []
        for chunk in chunks:
            at = chunk.offset - start
            stored = bytes(data[at : at + chunk.stored_bytes])
            try:
                open_chunk(chunk, memoryview(stored))
            except CorruptData as error:
                # Damaged, or a lie of whoever wrote a recipe: it stays where it is.
                url = self._store.url(chunk.pack.key(self._project))
                self._report.line(f"{url}: at byte {chunk.offset}: not copied: {error}")
            else:
                sound.append((chunk, stored))
        return sound

    async def _read(self, name: ObjectName) -> Recipe | None:
        """Read a recipe; `None` if there is none that this version understands."""
        scope, _, identifier = name.partition("/")
        try:
            stored = await self._store.get(
                object_key(self._project, name), limit_bytes=MAX_STORED_DOCUMENT_BYTES
            )
            return await asyncio.to_thread(decode_recipe, stored.data, Ref(scope, identifier))
        except (CorruptData, NotCached):
            return None
