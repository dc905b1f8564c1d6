"""Run longshore, and say afterwards what processor time its threads took inside compress calls.

    python -m scripts.bench_cpu FILE ARGUMENTS...

The seconds are written to FILE. A compression level is a choice; what is left is the agent's own.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from longshore.cli import main as longshore
from longshore.core import codec


class _Measured:
    """A compressor that adds up its threads' time."""

    seconds = 0.0
    lock = threading.Lock()

    def __init__(self, compressor: Any) -> None:
        self._compressor = compressor

    def compress(self, data: bytes | memoryview) -> bytes:
        started = time.thread_time()
        try:
            compressed: bytes = self._compressor.compress(data)
        finally:
            taken = time.thread_time() - started
            with _Measured.lock:
                _Measured.seconds += taken
        return compressed


class _Library:
    """The compression library, with measured compressors."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def ZstdCompressor(self, **options: Any) -> _Measured:
        return _Measured(self._library.ZstdCompressor(**options))


def main() -> None:
    """Run one command."""
    file = Path(sys.argv.pop(1))
    library: Any = codec
    library.zstandard = _Library(library.zstandard)
    leave = os._exit

    def noted(status: int) -> NoReturn:
        file.write_text(repr(_Measured.seconds))
        leave(status)

    os._exit = noted  # which is how longshore ends
    longshore()


if __name__ == "__main__":
    main()
