"""What longshore asks of a Docker engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Literal

from msgspec import Struct

from longshore.core.digests import Digest
from longshore.core.images import Step

ImageStore = Literal["graphdriver", "containerd"]
ImageAction = Literal["tag", "load", "import", "pull"]


class EngineInfo(Struct, frozen=True):
    """What an engine says of itself."""

    version: str
    api_version: str
    image_store: ImageStore
    platform: str
    """As keys write it: `linux-amd64`, `linux-arm64-v8`, …"""
    storage_driver: str
    address: str
    data_root: str | None = None
    """Where it keeps its data, as it sees it itself."""
    native_diff: bool = True
    """Whether overlay2 keeps all of a layer in the layer's own folder."""


class EngineImage(Struct, frozen=True):
    """One image that the engine holds."""

    id: Digest
    """The config's digest on a graphdriver store, the manifest's or index's on a containerd one."""
    tags: tuple[str, ...]
    parent: Digest | None
    diff_ids: tuple[Digest, ...]
    size_bytes: int
    complete: bool = True
    """Whether all of it is there: a containerd store may hold an image without its blobs."""


class ImageEvent(Struct, frozen=True):
    """Something after which the name of an image may mean another image."""

    action: ImageAction
    name: str
    """The tag, where the engine tells it, which it does for `tag`; else the id."""
    image_id: Digest | None
    """`None` if the engine told a name only."""


class Engine(ABC):
    """A Docker engine.

    All methods raise `EngineUnavailable` if it cannot be reached, and `EngineError` if it fails.
    They may be called concurrently.
    """

    @abstractmethod
    async def info(self) -> EngineInfo:
        """Ask what the engine is."""

    @abstractmethod
    async def inspect(self, name: str) -> EngineImage | None:
        """Look up an image by reference or id; `None` if the engine has none of that name."""

    @abstractmethod
    async def history(self, name: str) -> tuple[Step, ...]:
        """List what the build steps of an image did, base first."""

    @abstractmethod
    async def image_ids(self) -> frozenset[Digest]:
        """List the ids of all images, intermediate ones included."""

    @abstractmethod
    def save(self, ids: Sequence[Digest]) -> AsyncGenerator[bytes, None]:
        """Stream the archive of images, in blocks of a few MiB.

        Leaving the iteration early ends the engine's work on it.
        """

    @abstractmethod
    async def load(
        self, archive: AsyncIterator[bytes], progress: Callable[[int], None] | None = None
    ) -> None:
        """Load an archive.

        An exception of `archive` breaks the stream off before its end, so that the engine
        discards what it got, and is raised here.

        Args:
            progress: called with bytes of layers that the engine has unpacked, as it reports them.

        Raises:
            LayerVanished: a layer that was not sent is not there (any more).
            EngineError: the engine refused the archive, said so in its answer, or broke off.
        """

    @abstractmethod
    async def tag(self, image_id: Digest, tag: str) -> None:
        """Give an image a tag, taking it from the image that has it."""

    @abstractmethod
    async def remove(self, image_id: Digest) -> None:
        """Remove an image, not its parents. One that is not there counts as removed."""

    @abstractmethod
    async def look_up(self, reference: str) -> Digest | None:
        """Have the engine ask a registry what a reference means; `None` if it gets no answer."""

    @abstractmethod
    def events(self) -> AsyncGenerator[ImageEvent | None, None]:
        """Tell what happens to images from now on: first `None`, when the engine listens.

        It never ends by itself: that the engine went away is raised. That nothing happens for long
        is no error. Not all that happens is told: engine 26 with a containerd store says nothing of
        BuildKit's builds, and what happens while nobody listens is lost. So an event is a reason
        to look, and the lack of one proves nothing. Leaving the iteration early ends it at once.
        """

    async def close(self) -> None:
        """Release connections."""
        return
