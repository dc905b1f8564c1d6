"""How long it takes until space is free, by how often prune runs: what docs/operations.md says."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from tests.ops.pruning import Bucket

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
ROWS = {
    int(every): (int(least), int(most or least))
    for every, least, most in re.findall(
        r"^\| every (\d+) h \| (\d+)(?: to (\d+))? h \|$", DOCS.read_text(), re.MULTILINE
    )
}
SECOND = timedelta(seconds=1)


async def hours_until_free(every: timedelta) -> float:
    """Count the hours from the run that removes an entry to the one that deletes its pack."""
    bucket = Bucket()
    await bucket.export(1)
    await bucket.export(2, base=2)
    await bucket.prune()
    removed_at = bucket.clock.now
    stored = len(bucket.keys("recipes"))
    for _ in range(200):
        bucket.clock.now += every
        await bucket.prune()
        if len(bucket.keys("recipes")) < stored:
            return (bucket.clock.now - removed_at) / timedelta(hours=1)
    raise AssertionError("nothing was ever deleted")


@pytest.mark.parametrize("every", ROWS)
async def test_space_is_free_after_as_many_hours_as_documented(every: int) -> None:
    # Cron is no clock: runs come a little later or earlier than they should.
    late = await hours_until_free(timedelta(hours=every) + SECOND)
    early = await hours_until_free(timedelta(hours=every) - SECOND)

    assert (round(min(late, early)), round(max(late, early))) == ROWS[every]


def test_the_table_has_rows() -> None:
    assert set(ROWS) == {1, 6, 12, 24, 168}
