"""How hard to compress the next batch: what is idle, the network or the CPU, does more.

The levels worth having, by `scripts/measure-levels /usr/lib` (one core; a context for each thread):

    level   MB/s   ratio   context
    1       280    2.162   1.3 MiB
    3       144    2.305   2.5 MiB
    5        71    2.360   4.2 MiB
    6        54    2.394   4.2 MiB
    9        29    2.410   11.7 MiB

So 6 stores 3.7 % less than 3 does. 9 takes nearly twice as long as 6, and three times the memory,
for 0.7 % more; so 6 is the ceiling.
"""

from __future__ import annotations

from typing import Literal

Level = int | Literal["auto"]

LADDER = (1, 3, 5, 6)
USUAL = 3
STEADY = 4
"""Batches that a level stays at least, so that those under way at the one before have gone."""
CALM = 16
"""Batches in a row with nothing waiting, after which a level above the usual one is left. The
store is only heard of once for each part, which is four batches of what cannot be compressed, nine
of programs, and more of texts."""


class AdaptiveLevel:
    """Choose the level of each batch.

    Attributes:
        level: of the last batch.
    """

    def __init__(self, fixed: Level = "auto") -> None:
        self._fixed = fixed
        self.level = USUAL if fixed == "auto" else fixed
        self._same = STEADY
        self._calm = 0

    def next(self, *, compression: bool, store: bool) -> int:
        """Choose the level of the next batch.

        Args:
            compression: since the batch before, compression was what everybody waited for.
            store: since then, the store was. Where both were, CPU is what is lacking.
        """
        if self._fixed == "auto":
            self._calm = 0 if compression or store else self._calm + 1
            wanted = self._wanted(compression=compression, store=store)
            if self._same >= STEADY and wanted != self.level:
                self.level = wanted
                self._same = 0
                self._calm = 0
            self._same += 1
        return self.level

    def _wanted(self, *, compression: bool, store: bool) -> int:
        level = self.level
        if compression:
            return USUAL if level > USUAL else LADDER[0]
        if store:
            return next((higher for higher in LADDER if higher > level), level)
        patience = CALM if level > USUAL else STEADY
        return USUAL if self._calm >= patience else level
