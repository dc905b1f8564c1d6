"""The level follows what everybody waits for: down at once, up step by step, not to and fro."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from longshore.core.compression_level import CALM, LADDER, STEADY, USUAL, AdaptiveLevel

COMPRESSION = (True, False)
STORE = (False, True)
BOTH = (True, True)
NEITHER = (False, False)
Waits = tuple[bool, bool]
EACH: tuple[Waits, ...] = (COMPRESSION, STORE, BOTH, NEITHER)

histories = st.lists(st.sampled_from(EACH), max_size=80)


def run(levels: AdaptiveLevel, *waits: Waits) -> list[int]:
    return [levels.next(compression=compression, store=store) for compression, store in waits]


def after(history: list[Waits]) -> AdaptiveLevel:
    levels = AdaptiveLevel()
    run(levels, *history)
    return levels


def test_the_first_batch_gets_the_usual_level() -> None:
    assert run(AdaptiveLevel(), NEITHER) == [USUAL]


@given(histories, st.integers(1, 19))
def test_a_number_stays_that_number(history: list[Waits], number: int) -> None:
    assert set(run(AdaptiveLevel(number), *history)) <= {number}


@given(histories)
def test_only_levels_of_the_ladder_are_used(history: list[Waits]) -> None:
    assert set(run(AdaptiveLevel(), *history)) <= set(LADDER)


@given(histories)
def test_a_level_stays_for_some_batches(history: list[Waits]) -> None:
    found = [USUAL] * STEADY + run(AdaptiveLevel(), *history)
    changes = [number for number, (one, next_) in enumerate(pairwise(found)) if one != next_]

    assert all(later - earlier >= STEADY for earlier, later in pairwise(changes))


@given(histories)
def test_each_change_is_in_the_direction_that_what_waits_asks_for(history: list[Waits]) -> None:
    found = [USUAL, *run(AdaptiveLevel(), *history)]

    for waits, before, now in zip(history, found, found[1:], strict=False):
        if waits in (COMPRESSION, BOTH):
            assert now <= before
        elif waits == STORE:
            assert now >= before
            assert LADDER.index(now) - LADDER.index(before) <= 1
        else:
            assert now in (before, USUAL)


@given(histories, st.sampled_from([COMPRESSION, BOTH]))
def test_compression_that_is_waited_for_comes_to_the_lowest_level_in_a_few_batches(
    history: list[Waits], waits: Waits
) -> None:
    levels = after(history)
    run(levels, *[waits] * (2 * STEADY))

    assert set(run(levels, *[waits] * 50)) == {LADDER[0]}


def test_compression_that_is_waited_for_is_faster_at_once() -> None:
    for waits in (COMPRESSION, BOTH):
        assert run(AdaptiveLevel(), NEITHER, waits, waits) == [USUAL, LADDER[0], LADDER[0]]


@given(histories)
def test_a_store_that_is_waited_for_comes_to_the_ceiling_step_by_step(
    history: list[Waits],
) -> None:
    levels = after(history)
    found = [levels.level, *run(levels, *[STORE] * (len(LADDER) * STEADY))]

    assert list(dict.fromkeys(found)) == [level for level in LADDER if level >= found[0]]
    assert set(run(levels, *[STORE] * 50)) == {LADDER[-1]}


@given(histories)
def test_the_usual_level_returns_when_nothing_waits(history: list[Waits]) -> None:
    levels = after(history)
    run(levels, *[NEITHER] * CALM)

    assert set(run(levels, *[NEITHER] * 50)) == {USUAL}


def test_a_low_level_ends_in_a_few_batches_when_nothing_waits() -> None:
    levels = after([COMPRESSION])

    assert run(levels, *[NEITHER] * STEADY)[-2:] == [LADDER[0], USUAL]


@pytest.mark.parametrize("between", range(CALM))
def test_a_store_that_is_heard_of_once_for_each_part_keeps_a_high_level(between: int) -> None:
    levels = after([STORE] * (len(LADDER) * STEADY))

    found = run(levels, *([*[NEITHER] * between, STORE] * 5))

    assert set(found) == {LADDER[-1]}
