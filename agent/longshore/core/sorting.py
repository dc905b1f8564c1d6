"""What to do with each member of an engine's archive: keep, cut, or let it pass.

The archive's own manifest comes last, so members are told apart by name (from engine 25 on a
blob's name is its digest) or by what they turn out to hold (before).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Container, Iterator

from msgspec import Struct

from longshore.core.archive import ArchiveReader, Member, MemberEnd
from longshore.core.cutting import BlobCutter, BlobFacts, Cut
from longshore.core.digests import Digest, digest_of
from longshore.errors import EngineError

MAX_CONFIG_BYTES = 8 << 20
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_LEGACY_CONFIG = re.compile(r"([0-9a-f]{64})\.json")


class BlobDone(Struct, frozen=True):
    """A blob has passed in full, and its bytes are those that its name promised."""

    facts: BlobFacts


class BlobLost(Struct, frozen=True):
    """A blob will not come to its end; what was cut of it is good for other blobs."""


Item = Cut | BlobDone | BlobLost


class NewChunks:
    """Sort out of what was cut the chunks that are neither stored nor on their way.

    Args:
        known: ids of chunks that are stored already.
    """

    def __init__(self, known: Container[bytes]) -> None:
        self._known = known
        self._new: set[bytes] = set()

    def of(self, cuts: list[Cut]) -> Iterator[Cut]:
        """Choose those that are seen for the first time."""
        for cut in cuts:
            if cut.id not in self._known and cut.id not in self._new:
                self._new.add(cut.id)
                yield cut


class Sorter(ABC):
    """Take an archive apart into chunks that are new, blobs that are done, and documents.

    Args:
        known: ids of chunks that are stored already.

    Attributes:
        documents: what was kept whole, by digest.
    """

    def __init__(self, *, known: Container[bytes]) -> None:
        self._reader = ArchiveReader()
        self._new = NewChunks(known)
        self._cutter: BlobCutter | None = None
        self._document: bytearray | None = None
        self._expected: Digest | None = None
        self.documents: dict[Digest, bytes] = {}

    def feed(self, block: bytes) -> list[Item]:
        """Take more of the archive. Returns new chunks, and the blobs that ended behind them.

        Raises:
            EngineError: the archive is broken, or a blob is not what its name says.
        """
        out: list[Item] = []
        for event in self._reader.feed(block):
            if isinstance(event, Member):
                named = _BLOB.fullmatch(event.name) or _LEGACY_CONFIG.fullmatch(event.name)
                self._expected = Digest(f"sha256:{named[1]}") if named else None
                self._begin(event)
            elif isinstance(event, MemberEnd):
                self._end(out)
            else:
                self._take(event, out)
        return out

    def finish(self) -> list[Item]:
        """Check that the archive came to its end. Returns what only then could be told.

        Raises:
            EngineError: it was cut short.
        """
        self._reader.finish()
        return []

    @abstractmethod
    def _begin(self, member: Member) -> None:
        """Decide what becomes of a member; `_expected` is the digest that its name promises."""

    def _take(self, data: memoryview, out: list[Item]) -> None:
        if self._cutter is not None:
            out += self._new.of(self._cutter.feed(data))
        elif self._document is not None:
            self._document += data

    def _end(self, out: list[Item]) -> None:
        if self._cutter is not None:
            cuts, facts = self._cutter.finish()
            out += self._new.of(cuts)
            self._check(facts.digest)
            out.append(BlobDone(facts))
        elif self._document is not None:
            data = bytes(self._document)
            self._check(digest_of(data))
            self.documents[digest_of(data)] = data
        self._cutter = self._document = self._expected = None

    def _check(self, digest: Digest) -> None:
        if self._expected is not None and digest != self._expected:
            raise EngineError(
                f"the engine's archive holds {digest} under the name of {self._expected};"
                " its disk may be damaged"
            )


class ArchiveSorter(Sorter):
    """Sort an archive of an engine with a graphdriver store.

    Args:
        blobs: digests of the layers to take; others pass by unread where the name tells them.
        documents: digests of the configs to take.
    """

    def __init__(
        self, *, blobs: Container[Digest], documents: Container[Digest], known: Container[bytes]
    ) -> None:
        super().__init__(known=known)
        self._blobs = blobs
        self._wanted_documents = documents

    def _begin(self, member: Member) -> None:
        if self._expected is not None and self._expected in self._wanted_documents:
            if member.size_bytes > MAX_CONFIG_BYTES:
                raise EngineError(
                    f"the engine's archive has a config of {member.size_bytes:,} bytes"
                )
            self._document = bytearray()
        elif self._expected in self._blobs or member.name.endswith("/layer.tar"):
            self._cutter = BlobCutter()
