"""Read the contents of packs: rebuild blobs, and of those that fail find out what is damaged.

A blob is rebuilt as an import would, so what passes here can be loaded. Of one that fails, each
chunk is looked at on its own. If it is not what the recipe says, then one of the two is damaged;
which of them is told by what else is known about the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec import Struct

from longshore.core.gc_documents import ObjectName, name_of_ref, object_key
from longshore.core.ranges import Ranges
from longshore.core.rebuild_plan import plan_rebuild
from longshore.core.recipe import Chunk, Recipe
from longshore.errors import AccessDenied, CorruptData, NotCached
from longshore.ops.chunk_reading import ReadChunks, open_unnamed, read_chunks, rebuild
from longshore.ops.examining import Examiner, without_url
from longshore.ops.report import Report
from longshore.ops.tasks import Slots, for_each

BLOBS_AT_ONCE = 4
KEPT_BYTES = 4 << 20  # of each blob: chunks that it needs many times
_MANY_CHUNKS = 30_000  # in one recipe; a hundred thousand of them, planned, take 50 MB
_WITNESSES = 8  # recipes that are asked about a chunk which is not what another one says
_ANOTHER_BLOB = "its chunks are sound, and do not make the layer that it is for"
_MISNAMED = "it says wrongly what its chunks hold: the layer can be rebuilt without that"


class Verified(Struct):
    """What was read.

    Attributes:
        blobs: how many were looked at.
        not_rebuilt: those whose recipes repeat themselves beyond measure: only their chunks were
            looked at.
    """

    blobs: int = 0
    read_bytes: int = 0
    not_rebuilt: int = 0


class Verifier:
    """Verify blobs of one project, and add what is wrong to the examiner's findings.

    Args:
        window_bytes: how much to read ahead, for all blobs together.
    """

    def __init__(self, examiner: Examiner, report: Report, *, window_bytes: int) -> None:
        self._examiner = examiner
        self._store = examiner.store
        self._project = examiner.project
        self._seen = examiner.seen
        self._report = report
        self._window = window_bytes // BLOBS_AT_ONCE
        self._slots = Slots(BLOBS_AT_ONCE)
        self._users: dict[ObjectName, list[ObjectName]] = {}
        self._done = Verified()

    async def verify(self, names: Collection[ObjectName]) -> Verified:
        """Verify the blobs of some recipes, several at once.

        Raises:
            StoreError: the store failed.
        """
        for name, needs in self._seen.recipes.items():
            for pack in needs.ends:
                self._users.setdefault(pack, []).append(name)
        total = sum(self._seen.recipes[name].stored_bytes for name in names)
        self._report.begin("checking", total)
        await for_each(self._verify, names, at_once=BLOBS_AT_ONCE)
        self._report.end()
        return self._done

    async def _verify(self, name: ObjectName) -> None:
        many = self._seen.recipes[name].chunks > _MANY_CHUNKS
        async with self._slots.take(all_of_them=many):
            try:
                await self._verify_blob(name, await self._examiner.recipe(name))
            except AccessDenied as error:
                self._seen.denied.append(error)
            except NotCached as error:  # replaced meanwhile, by a newer longshore
                self._seen.newer[self._url(name)] = str(error)
            except CorruptData as error:
                self._seen.findings.blame(name, name, without_url(self._url(name), error))
        self._done.blobs += 1

    async def _verify_blob(self, name: ObjectName, recipe: Recipe) -> None:
        plan = plan_rebuild(recipe, keep_bytes=KEPT_BYTES)
        rebuilt = not plan.too_repetitive and name not in self._seen.findings.culprits
        if rebuilt:
            try:
                await rebuild(self._store, self._project, plan, recipe, self._window, self._fetched)
            except CorruptData:
                pass
            else:
                return
        self._done.not_rebuilt += plan.too_repetitive
        found = await self._read(chunk for stream in recipe.streams for chunk in stream)
        blame = self._seen.findings.blame
        for pack in found.missing:
            blame(name, pack, self._examiner.missing(pack))
        if not found.bad and not found.missing:
            if rebuilt:
                blame(name, name, _ANOTHER_BLOB)
        elif not found.missing and not plan.too_repetitive and found.only_misnamed:
            try:
                await rebuild(
                    self._store,
                    self._project,
                    plan,
                    recipe,
                    self._window,
                    self._fetched,
                    open_one=open_unnamed,
                )
            except CorruptData:
                await self._blame_packs(name, found)
            else:
                blame(name, name, _MISNAMED)
        else:
            await self._blame_packs(name, found)

    async def _blame_packs(self, name: ObjectName, found: ReadChunks) -> None:
        """Blame packs for chunks that are not what a recipe says, or the recipe if it lies."""
        by_pack: dict[ObjectName, list[Chunk]] = {}
        for chunk in found.bad:
            by_pack.setdefault(name_of_ref(chunk.pack), []).append(chunk)
        for pack, bad in by_pack.items():
            sound = Ranges(c for c in found.sound if name_of_ref(c.pack) == pack)
            left = [chunk for chunk in bad if not sound.touch(chunk)]
            if left:
                sound = await self._ask_witnesses(name, pack, left)
                left = [chunk for chunk in left if not sound.touch(chunk)]
            if len(left) < len(bad):
                text = (
                    f"it names chunks of {self._url(pack)} that are not there;"
                    " others are, in their place"
                )
                self._seen.findings.blame(name, name, text)
            if left:
                first = min(left, key=lambda chunk: chunk.offset)
                more = f", and {len(left) - 1} more chunks" if len(left) > 1 else ""
                text = f"at byte {first.offset:,}: {found.bad[first]}{more}"
                self._seen.findings.blame(name, pack, text)

    async def _ask_witnesses(
        self, accuser: ObjectName, pack: ObjectName, bad: Collection[Chunk]
    ) -> Ranges:
        """Find chunks that other recipes say lie where some are bad, and that are sound."""
        scope = pack.partition("/")[0]
        others = [name for name in self._users[pack] if name != accuser]
        others.sort(key=lambda name: (name.partition("/")[0] != scope, name))
        near = Ranges(bad)
        claims: set[Chunk] = set()
        for name in others[:_WITNESSES]:
            try:
                recipe = await self._examiner.recipe(name)
            except (CorruptData, NotCached, AccessDenied):
                continue
            claims.update(
                chunk
                for stream in recipe.streams
                for chunk in stream
                if name_of_ref(chunk.pack) == pack and near.touch(chunk)
            )
        return Ranges((await self._read(claims.difference(bad))).sound)

    def _url(self, name: ObjectName) -> str:
        return self._store.url(object_key(self._project, name))

    async def _read(self, chunks: Iterable[Chunk]) -> ReadChunks:
        return await read_chunks(self._store, self._project, set(chunks), self._fetched)

    def _fetched(self, read_bytes: int) -> None:
        self._done.read_bytes += read_bytes
        self._report.advance(read_bytes)
