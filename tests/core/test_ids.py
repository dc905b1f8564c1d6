"""Ids sort by time, and a clock that is slow cannot put a new one behind an old one."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from longshore.core.ids import is_id, new_id, time_of

NOW = datetime(2025, 1, 2, 3, 4, 5, 678_000, UTC)
ZEROS, ONES = bytes(10), b"\xff" * 10

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
instants = st.integers(0, 10**16).map(lambda micros: EPOCH + timedelta(microseconds=micros))
noise = st.binary(min_size=10, max_size=10)


def test_an_id_is_pinned() -> None:
    assert new_id(NOW, bytes(range(10))) == "019424f8-632e-7001-8203-040506070809"


def test_of_the_noise_74_bits_are_used() -> None:
    assert new_id(NOW, ONES)[14:] == "7fff-bfff-ffffffffffff"


@given(instants, noise)
def test_an_id_is_a_uuid_of_version_7(now: datetime, random: bytes) -> None:
    parsed = uuid.UUID(new_id(now, random))

    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)


@given(instants, noise)
def test_an_id_is_in_canonical_form(now: datetime, random: bytes) -> None:
    identifier = new_id(now, random)

    assert is_id(identifier)
    assert str(uuid.UUID(identifier)) == identifier


@given(instants, noise)
def test_an_id_carries_its_time_to_the_millisecond(now: datetime, random: bytes) -> None:
    lost = now - time_of(new_id(now, random))

    assert timedelta(0) <= lost <= timedelta(milliseconds=1)


@given(instants, st.integers(1, 10**12), noise, noise)
@example(EPOCH + timedelta(seconds=1), 1, ZEROS, ZEROS)  # in floats, 1.001 * 1000 < 1001
def test_a_later_id_is_greater(
    now: datetime, milliseconds: int, random: bytes, other: bytes
) -> None:
    later = now + timedelta(milliseconds=milliseconds)

    assert new_id(now, random) < new_id(later, other)


@given(instants, instants, noise, noise)
def test_an_id_is_greater_than_the_newest_seen_whatever_the_clock_says(
    seen_at: datetime, now: datetime, random: bytes, other: bytes
) -> None:
    newest = new_id(seen_at, random)

    assert new_id(now, other, after=newest) > newest


def test_a_slow_clock_yields_one_millisecond_after_the_newest_seen() -> None:
    newest = new_id(NOW, ONES)

    late = new_id(NOW - timedelta(days=400), ZEROS, after=newest)

    assert time_of(late) == NOW + timedelta(milliseconds=1)


def test_a_right_clock_is_not_held_back_by_what_was_seen() -> None:
    seen = new_id(NOW - timedelta(days=1), ONES)

    assert time_of(new_id(NOW, ZEROS, after=seen)) == NOW


def test_ids_made_one_after_the_other_at_one_moment_ascend() -> None:
    made = [new_id(NOW, ONES)]
    for _ in range(50):
        made.append(new_id(NOW, ZEROS, after=made[-1]))

    assert made == sorted(set(made))


def test_a_time_before_1970_counts_as_1970() -> None:
    made = new_id(datetime(1950, 1, 1, tzinfo=UTC), ONES)

    assert time_of(made) == EPOCH


def test_after_the_greatest_time_there_is_an_id_is_still_valid() -> None:
    greatest = "ffffffff-ffff-7000-8000-000000000000"

    assert is_id(new_id(NOW, ONES, after=greatest))


def test_a_time_beyond_all_calendars_is_the_last_that_there_is() -> None:
    assert time_of("ffffffff-ffff-7000-8000-000000000000") == datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "019424f8-632e-7001-8203-04050607080",
        "019424f8-632e-7001-8203-0405060708090",
        "019424f8-632e-7001-8203-040506070809\n",
        "019424D2-9C4E-7001-8203-040506070809",
        "019424f8-632e-4001-8203-040506070809",
        "019424f8-632e-7001-c203-040506070809",
        "019424d29c4e70018203040506070809",
        "{019424f8-632e-7001-8203-040506070809}",
        "../../../9c4e-7001-8203-040506070809",
        "\u0660" * 8 + "-9c4e-7001-8203-040506070809",
    ],
)
def test_other_texts_are_no_ids(text: str) -> None:
    assert not is_id(text)


@given(st.text())
def test_no_text_makes_the_question_fail(text: str) -> None:
    assert is_id(text) is False
