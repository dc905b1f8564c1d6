"""The fake engine, with a build for one-file layers, and variants of images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace
from tests.support.fake_engine import FakeEngine, FakeImage

from longshore.core.digests import Digest, parse_digest
from longshore.core.images import Step
from longshore.engine.contract import EngineInfo, ImageStore


class TinyEngine(FakeEngine):
    """An engine whose answers about itself can be chosen."""

    def __init__(
        self,
        *,
        version: str = "28.5.2",
        platform: str = "linux-amd64",
        image_store: ImageStore = "graphdriver",
    ) -> None:
        super().__init__(platform=platform)
        self.version = version
        self.image_store = image_store

    def make(self, steps: Sequence[tuple[str, bytes | None]], *tags: str) -> Digest:
        """Build from commands and what they write.

        `None` is a step without a layer, no bytes one with a layer that is empty.
        """
        files = [
            (command, content if content is None else {"file": content} if content else {})
            for command, content in steps
        ]
        return self.build(files, *tags)

    def vary(self, image_id: Digest, tag: str, **changes: Any) -> Digest:
        """Make an image with the same layers and steps, and another config."""
        image = self.images[image_id]
        config = json.dumps(json.loads(image.config) | changes).encode()
        identifier = parse_digest("sha256:" + hashlib.sha256(config).hexdigest())
        self.images[identifier] = FakeImage(config, parent=image.parent)
        self._tag(identifier, tag)
        return identifier

    async def info(self) -> EngineInfo:
        return replace(await super().info(), version=self.version, image_store=self.image_store)

    async def history(self, name: str) -> tuple[Step, ...]:
        """As real engines do, tell of a step only its command, and whether it added bytes."""
        found = await self.inspect(name)
        assert found is not None
        layers = iter(found.diff_ids)
        empty = parse_digest("sha256:" + hashlib.sha256(_EMPTY_LAYER).hexdigest())
        return tuple(
            Step(created_by=step.created_by, empty_layer=step.empty_layer or next(layers) == empty)
            for step in await super().history(name)
        )


_EMPTY_LAYER = bytes(10240)  # as tarfile pads it
