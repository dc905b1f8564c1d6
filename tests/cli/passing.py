"""Let time pass in a store that is a folder: what is in it gets older."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path


def later(store: Path, *, hours: float) -> None:
    """Make everything in a store, and in its unfinished uploads, older."""
    seconds = timedelta(hours=hours).total_seconds()
    for path in store.rglob("*"):
        at = path.stat().st_mtime - seconds
        os.utime(path, (at, at))
