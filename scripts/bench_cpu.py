"""Run longshore, and say afterwards what processor time its threads took inside compress calls.

    python -m scripts.bench_cpu FILE ARGUMENTS...

The seconds are written to FILE. A compression level is a choice; what is left is the agent's own.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from longshore.cli import main
from longshore.core import codec

spent: list[float] = []
_compress = codec.compress


def measured(data: bytes | memoryview, level: int, *, checksum: bool = False) -> bytes:
    """Compress, and note what it took."""
    started = time.thread_time()
    stored = _compress(data, level, checksum=checksum)
    spent.append(time.thread_time() - started)
    return stored


def noted(status: int) -> NoReturn:
    """End as longshore does, but write the figure down before."""
    file.write_text(repr(sum(spent)))
    leave(status)


if __name__ == "__main__":
    file = Path(sys.argv.pop(1))
    leave, os._exit = os._exit, noted
    codec.compress = measured
    main()
