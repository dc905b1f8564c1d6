"""What to do with each member of the archive of an engine with a containerd store.

Blobs come in the order of their digests, and what they are is known when the manifests have
passed. So whatever may be a document is held until the end, and all else is cut at once.
"""

from __future__ import annotations

from collections.abc import Collection, Container

from longshore.core.archive import Member
from longshore.core.cutting import BlobCutter
from longshore.core.digests import Digest
from longshore.core.layout import Tree, belongs_in_entry, walk
from longshore.core.sorting import MAX_CONFIG_BYTES, Item, Sorter
from longshore.errors import CorruptData, EngineError

MAX_HELD_BYTES = 32 << 20
_SMALL_BYTES = 256 << 10  # nearly all documents are; attestations with lists of packages are not


class LayoutSorter(Sorter):
    """Sort an archive of an engine with a containerd store.

    Args:
        targets: ids of the images that were asked for.
        stored: digests of blobs that are stored already; they pass by unread.
    """

    def __init__(
        self, *, targets: Collection[Digest], stored: Container[Digest], known: Container[bytes]
    ) -> None:
        super().__init__(known=known)
        self._targets = targets
        self._stored = stored
        self._held_bytes = 0
        self._undecided: Member | None = None

    def finish(self) -> list[Item]:
        """Tell documents from blobs. Returns what of the blobs was held until now.

        Raises:
            EngineError: the archive was cut short, or lacks an image that was asked for.
        """
        super().finish()
        held, self.documents = self.documents, {}
        out: list[Item] = []
        for digest, media_type in self._walk(held).documents.items():
            if belongs_in_entry(media_type, len(held[digest])):
                self.documents[digest] = held[digest]
            else:
                self._cutter = BlobCutter()
                self._take(memoryview(held[digest]), out)
                self._end(out)
        return out

    def _walk(self, held: dict[Digest, bytes]) -> Tree:
        missing = [target for target in self._targets if target not in held]
        if missing:
            raise EngineError(
                f"the engine's archive lacks the image {missing[0]}; was it removed meanwhile?"
            )
        try:
            return walk(self._targets, held)
        except CorruptData as error:
            raise EngineError(f"the engine's archive cannot be followed: {error}") from error

    def _begin(self, member: Member) -> None:
        if self._expected is None or self._expected in self._stored:
            return
        if member.size_bytes:
            self._undecided = member
        else:  # no bytes will come to decide by
            self._cutter = BlobCutter()

    def _take(self, data: memoryview, out: list[Item]) -> None:
        if self._undecided is not None:
            member, self._undecided = self._undecided, None
            size = member.size_bytes
            if data[0] == ord("{") and size <= min(MAX_CONFIG_BYTES, self._room(size)):
                self._held_bytes += size
                self._document = bytearray()
            else:
                self._cutter = BlobCutter()
        super()._take(data, out)

    def _room(self, size_bytes: int) -> int:
        """Tell how much more may be held; half of it is for small documents alone."""
        limit = MAX_HELD_BYTES if size_bytes <= _SMALL_BYTES else MAX_HELD_BYTES // 2
        return limit - self._held_bytes
