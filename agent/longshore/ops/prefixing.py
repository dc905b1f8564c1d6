"""Find out how much of a service's image its next build can use, before anything is loaded.

When in doubt, all of it is loaded: whatever cannot be read or compared leaves the entry as it is.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from msgspec import Struct

from longshore.core.copied_files import read_copy
from longshore.core.digests import Digest
from longshore.core.dockerfile import MAX_BYTES, Unclear, read_dockerfile
from longshore.core.dockerignore import EVERYTHING, NOTHING, read_ignored
from longshore.core.entry import Entry
from longshore.core.prefix import (
    Alignment,
    Chain,
    CopyStep,
    Left,
    align,
    chain_of,
    cut,
    working_folder,
)
from longshore.core.service import Service
from longshore.errors import LongshoreError
from longshore.ops.checkout import Checkout
from longshore.ops.copied import find_change, read_layer
from longshore.ops.reachable import Reading

_IGNORE_BYTES = 1 << 20
_SHOWN = 200  # characters of a path


class BuildContext(Struct, frozen=True):
    """What a service will be built from.

    Attributes:
        target: the stage that the build ends with; `None` for the last one.
    """

    folder: Path
    dockerfile: Path
    target: str | None = None


async def leave_out(
    reading: Reading,
    entry: Entry,
    sent: Entry,
    service: Service,
    context: BuildContext,
    bases: Mapping[str, Collection[Digest]],
    *,
    window_bytes: int,
    fetched: Callable[[int], None],
) -> tuple[Entry, Left] | None:
    """Cut an entry down to what the next build can use; `None` if that may be all of it.

    Args:
        entry: as it is stored, with all tags that its images had.
        sent: the same, with the tags that it is to be loaded with; this is what is cut.
        bases: which images a tag may stand for when the build begins, by their configs.

    Raises:
        Unclear: image and checkout cannot be compared, for that reason.
    """
    try:
        chain = chain_of(entry)
        text = await asyncio.to_thread(_read, context.dockerfile, MAX_BYTES)
        found = align(entry, chain, read_dockerfile(text), context.target, bases)
        with Checkout(context.folder) as checkout:
            ignored = await asyncio.to_thread(_ignored, checkout, context)
            comparing = _Comparing(reading, entry, chain, checkout, ignored, window_bytes, fetched)
            # Any of the stages may be the one; what one of them can use is kept.
            ends = [(*await comparing.end_of(stage), stage.base) for stage in found]
            end, reason, base = max(ends, key=lambda one: one[0])
    except OSError as error:
        raise Unclear(f"{error.filename}: {error.strerror or error}") from error
    if end == len(chain.images):
        return None
    return cut(sent, chain_of(sent), base, end, reason, service.images)


class _Comparing:
    """Compare the copying steps of a chain with the checkout, each once."""

    def __init__(
        self,
        reading: Reading,
        entry: Entry,
        chain: Chain,
        checkout: Checkout,
        ignored: re.Pattern[str],
        window_bytes: int,
        fetched: Callable[[int], None],
    ) -> None:
        self._reading = reading
        self._entry = entry
        self._chain = chain
        self._checkout = checkout
        self._ignored = ignored
        self._window_bytes = window_bytes
        self._fetched = fetched

    async def end_of(self, alignment: Alignment) -> tuple[int, str]:
        """Tell at which image a stage's steps end to be those of the chain, and why."""
        for step in alignment.copies:
            changed = await self._change(step)
            if changed is not None:
                return step.index, f"{changed} has changed"
        return alignment.end, alignment.reason

    async def _change(self, step: CopyStep) -> str | None:
        copy = read_copy(step.instruction)
        if copy is None:
            return None
        digest = Digest(self._chain.images[step.index].layers[-1])
        try:
            with self._reading.room.for_now():
                layer = await read_layer(
                    self._reading, self._entry, digest, self._window_bytes, self._fetched
                )
        except LongshoreError:  # whoever loads it will say so
            return None
        if layer is None:
            return None
        folder = working_folder(self._entry, self._chain, step.index)
        changed = await asyncio.to_thread(
            find_change, layer, copy, folder, self._checkout, self._ignored
        )
        if changed is None:
            return None
        return changed.encode("utf-8", "replace").decode()[:_SHOWN]


def _ignored(checkout: Checkout, context: BuildContext) -> re.Pattern[str]:
    """Read what may be left out, by either of the two files that builders look at."""
    data = b""
    if checkout.look(".dockerignore") is not None:
        found = checkout.read(".dockerignore", _IGNORE_BYTES)
        if found is None:
            return EVERYTHING
        data = found
    if os.path.lexists(f"{context.dockerfile}.dockerignore"):
        return EVERYTHING
    return read_ignored(data) if data else NOTHING


def _read(path: Path, limit_bytes: int) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise Unclear(f"{path} is no file")
        return opened.read(limit_bytes + 1)
