"""The clock of a machine, for what must not take longer than somebody else counts on."""

from __future__ import annotations

import time


def seconds_since_boot() -> float:
    """Count seconds, those in which the machine slept as well."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
