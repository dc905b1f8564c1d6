"""Bring the images of entries into an engine, and see that they are there.

An engine keeps what it has: neither images nor layers that it holds are sent again. What it lost
meanwhile is noticed, and then everything is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence

from longshore.core.archive_form import ArchiveForm
from longshore.core.digests import Digest, short
from longshore.core.entry import Entry
from longshore.core.layout_form import LayoutForm
from longshore.core.load_plan import (
    Expected,
    LoadForm,
    LoadPlan,
    SharedPlan,
    missing_images,
    plan_load,
    plan_shared,
)
from longshore.core.load_stages import plan_stages
from longshore.core.recipe import Recipe
from longshore.core.references import ImageReference
from longshore.core.tags import leave_foreign_tags
from longshore.engine.contract import Engine, EngineImage, ImageStore
from longshore.errors import EngineError, EngineUnavailable, LayerVanished, LongshoreError
from longshore.ops.reachable import Reading
from longshore.ops.rebuilding import build_archive
from longshore.ops.recipes import recipes_for
from longshore.ops.report import Report
from longshore.ops.streams import one_ahead
from longshore.ops.tasks import for_each, side_by_side

FORMS: Mapping[ImageStore, LoadForm] = {"graphdriver": ArchiveForm(), "containerd": LayoutForm()}
_INSPECTED_AT_ONCE = 8
_MAX_SAID = 10


class Loader:
    """Load entries into one engine.

    Args:
        form: how this engine's kind of image store is sent images.
        fetched: called with the bytes of each range of a pack that has arrived.
        unpacked: called with bytes of layers as the engine reports them.

    Attributes:
        window_bytes: how much each load may read ahead.
    """

    def __init__(
        self,
        engine: Engine,
        reading: Reading,
        form: LoadForm,
        report: Report,
        *,
        window_bytes: int,
        fetched: Callable[[int], None],
        unpacked: Callable[[int], None],
    ) -> None:
        self._engine = engine
        self._reading = reading
        self._form = form
        self._report = report
        self._fetched = fetched
        self._unpacked = unpacked
        self._images: dict[Digest, EngineImage] = {}
        self._held: set[Digest] = set()
        self.window_bytes = window_bytes

    def expected(self, entry: Entry) -> tuple[Expected, ...]:
        """List the images that the engine will have of an entry."""
        return self._form.expected(entry)

    async def look(self, entries: Collection[Entry]) -> None:
        """Learn which images and which stacks of layers the engine has."""
        ids = await self._engine.image_ids()
        for image in await for_each(self._engine.inspect, ids, at_once=_INSPECTED_AT_ONCE):
            if image is not None and image.complete:
                self._images[image.id] = image
        layers = {image.id: image.diff_ids for image in self._images.values()}
        self._held = self._form.held(layers, entries)

    def leave_foreign_tags(
        self, service: str, entry: Entry, own: Collection[ImageReference]
    ) -> Entry:
        """Keep an entry from taking names from images that the engine has; say which."""
        present = {tag: image.id for image in self._images.values() for tag in image.tags}
        entry, left = leave_foreign_tags(entry, self._form.ids(entry), present, own)
        for tag in left[:_MAX_SAID]:
            self._report.line(
                f"{service}: {tag} stays as this engine has it; the cached images go with another"
            )
        return entry

    def knows(self, entry: Entry, own: Collection[ImageReference]) -> bool:
        """Tell whether the engine has an entry's image, or any by the names of a service."""
        names = {reference.familiar for reference in own}
        tags = {tag for image in self._images.values() for tag in image.tags}
        return not names.isdisjoint(tags) or self._form.ids(entry)[0] in self._images

    def bases(self, entry: Entry) -> dict[str, set[Digest]]:
        """Tell what the engine's tags stand for: the config of an entry's image, or another id."""
        ids = zip(self._form.ids(entry), entry.images, strict=True)
        configs = {image_id: Digest(image.config) for image_id, image in ids}
        return {
            tag: {configs.get(image.id, image.id)}
            for image in self._images.values()
            for tag in image.tags
        }

    def lacks(self, entry: Entry) -> Iterable[Digest]:
        """List the blobs of an entry that have to be sent."""
        return () if self._has_all(entry) else plan_load(self._form, entry, self._held).blobs

    async def load_shared(
        self, entries: Mapping[str, Entry], recipes: Mapping[Digest, Recipe]
    ) -> SharedPlan | None:
        """Load what several services need once, before they load side by side."""
        shared = plan_shared(self._form, entries, self._held)
        if shared is None:
            return None
        try:
            await self._send(shared.load, recipes)
        except LongshoreError as error:
            # Each service tries for itself then; whoever needs what is damaged will say so.
            self._report.line(f"the shared layers could not be loaded first ({error})")
            return None
        self._held |= shared.stacks
        return shared

    async def let_go(self, images: Iterable[Digest]) -> None:
        """Remove the images that held layers until others did."""
        for image_id in images:
            try:
                await self._engine.remove(image_id)
            except EngineUnavailable:
                return  # which is said by whoever needs it for more
            except EngineError as error:
                self._report.line(f"an image that held layers stays in the engine ({error})")

    async def load(self, service: str, entry: Entry, recipes: Mapping[Digest, Recipe]) -> None:
        """Load an entry, and check that all of it is there.

        Args:
            recipes: of at least the blobs that the engine lacks.

        Raises:
            CorruptData: an object is missing or damaged.
            StoreError: the store failed.
            EngineError: the engine failed, or lacks something afterwards.
        """
        if self._has_all(entry):
            await self._tag(entry)
            await self._verify(entry)
            return
        sizes = {blob: recipe.size_bytes for blob, recipe in recipes.items()}
        stages = plan_stages(self._form, entry, self._held, sizes)
        try:
            await self._send_all(stages.loads, recipes)
            await self._verify(entry)
        except EngineError as error:
            staged = len(stages.loads) > 1 and not isinstance(error, EngineUnavailable)
            if not staged and not isinstance(error, LayerVanished):
                raise
            # Whatever lies between may also not like it that an archive waits for another one.
            self._report.line(f"{service}: {error}; loading in full")
            plan = plan_load(self._form, entry, ())
            await self._send(plan, await recipes_for(self._reading, entry, plan.blobs))
            await self._verify(entry)
        finally:
            await self.let_go(stages.images)

    async def _send_all(self, plans: Sequence[LoadPlan], recipes: Mapping[Digest, Recipe]) -> None:
        """Send archives one after the other, each while the engine unpacks the one before."""
        async with side_by_side() as group:
            before: asyncio.Task[None] | None = None
            for plan in plans:
                sent = asyncio.Event()
                before = group.create_task(self._send(plan, recipes, sent, before))
                await sent.wait()

    async def _send(
        self,
        plan: LoadPlan,
        recipes: Mapping[Digest, Recipe],
        sent: asyncio.Event | None = None,
        before: asyncio.Task[None] | None = None,
    ) -> None:
        """Send an archive, and wait until it is loaded.

        Args:
            sent: set when all but the end is sent.
            before: a load that has to be done before this archive may end, as what it brings is
                not in this one.
        """
        archive = build_archive(
            self._reading.store,
            self._reading.project,
            files=plan.files,
            recipes=[recipes[blob] for blob in plan.blobs],
            window_bytes=self.window_bytes,
            fetched=self._fetched,
        )
        if sent is not None:
            archive = _hold_end(archive, sent, before)
        async with contextlib.aclosing(one_ahead(archive)) as blocks:
            await self._engine.load(blocks, self._unpacked)

    async def _tag(self, entry: Entry) -> None:
        for image in self._form.expected(entry):
            present = self._images[image.id].tags
            for tag in image.tags:
                if tag not in present:
                    await self._engine.tag(image.id, tag)

    async def _verify(self, entry: Entry) -> None:
        """Ask the engine for everything that the entry promised.

        Raises:
            EngineError: an image, a tag or a parent is not there.
            LayerVanished: an image is there, but not all of its blobs are.
        """
        for image in self._form.expected(entry):
            found = await self._engine.inspect(image.id)
            if found is None:
                raise EngineError(f"the engine lacks the image {short(image.id)} after its load")
            if not found.complete:
                raise LayerVanished(f"the engine lacks parts of {short(image.id)} after its load")
            if image.parent is not None and found.parent != image.parent:
                raise EngineError(f"the engine does not know the parent of {short(image.id)}")
            if lost := sorted(set(image.tags) - set(found.tags)):
                raise EngineError(f"the engine lacks the tag {lost[0]} after its load")

    def _has_all(self, entry: Entry) -> bool:
        """Tell whether the engine had every image of an entry, with its parent."""
        present = {image_id: image.parent for image_id, image in self._images.items()}
        return not missing_images(self._form.expected(entry), present)


async def _hold_end(
    archive: AsyncGenerator[bytes, None], sent: asyncio.Event, before: asyncio.Task[None] | None
) -> AsyncGenerator[bytes, None]:
    """Pass an archive on, but its last block only when another load is done."""
    async with contextlib.aclosing(archive):
        last = b""
        async for block in archive:
            if last:
                yield last
            last = block
        sent.set()
        if before is not None:
            await before
        yield last
