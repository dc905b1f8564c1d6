"""A sweep takes what two runs found unreferenced, a grace period apart, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.core.gc_documents import GcDocument, GcKind, ObjectName, StoredGcDocument
from longshore.core.sweep_plan import effective_marks, plan_sweep

T0 = datetime(2026, 3, 1, tzinfo=UTC)
GRACE = timedelta(hours=24)
SECOND = timedelta(seconds=1)
PACK = ObjectName("main/019424f8-632e-7001-8203-040506070809")
OTHER = ObjectName("main/019424f8-632e-7001-8203-040506070800")
RECIPE = ObjectName(f"main/{'ab' * 32}.019424f8-632e-7001-8203-040506070809")


def note(
    kind: GcKind, run: str, hours: float, *objects: ObjectName, everything: bool = False
) -> StoredGcDocument:
    stored_at = T0 + timedelta(hours=hours)
    return StoredGcDocument(GcDocument(kind, run, objects, everything), stored_at)


def test_an_object_is_marked_by_the_first_run_that_saw_it_unreferenced() -> None:
    notes = [
        *(note("start", "b", 30), note("mark", "b", 31, PACK, OTHER)),
        *(note("start", "a", 0), note("mark", "a", 1, PACK)),
    ]

    assert effective_marks(notes) == {
        PACK: T0 + timedelta(hours=1),
        OTHER: T0 + timedelta(hours=31),
    }


@pytest.mark.parametrize("restarted", [0, 0.5, 1, 2])
def test_a_restart_after_a_run_began_takes_its_mark_back(restarted: float) -> None:
    # A restart in the second of the start counts as later; so does one after the mark.
    notes = [
        note("start", "a", 0),
        note("removed", "x", restarted, PACK),
        note("mark", "a", 1, PACK),
    ]

    assert effective_marks(notes) == {}


def test_what_a_run_saw_before_a_restart_does_not_count_though_it_noted_it_down_later() -> None:
    notes = [note("start", "a", 0), note("removed", "x", 3, PACK), note("mark", "a", 5, PACK)]

    assert effective_marks(notes) == {}


def test_a_run_that_began_after_a_restart_marks_anew() -> None:
    notes = [
        *(note("start", "a", 0), note("mark", "a", 1, PACK, OTHER)),
        note("removed", "x", 2, PACK),
        *(note("start", "b", 2.1), note("mark", "b", 3, PACK)),
    ]

    assert effective_marks(notes) == {
        PACK: T0 + timedelta(hours=3),
        OTHER: T0 + timedelta(hours=1),
    }


def test_a_restart_of_everything_takes_all_marks_back() -> None:
    notes = [
        *(note("start", "a", 0), note("mark", "a", 1, PACK, RECIPE)),
        note("removed", "x", 2, everything=True),
    ]

    assert effective_marks(notes) == {}


def test_a_mark_of_a_run_whose_start_nobody_knows_does_not_count() -> None:
    assert effective_marks([note("mark", "a", 1, PACK)]) == {}


@pytest.mark.parametrize(("late", "deleted"), [(timedelta(), False), (SECOND, True)])
def test_an_object_goes_when_more_than_the_grace_period_has_passed(
    late: timedelta, deleted: bool
) -> None:
    plan = plan_sweep({PACK: 7}, set(), {PACK: T0}, start=T0 + GRACE + late, grace=GRACE)

    assert plan.delete == ((PACK,) if deleted else ())
    assert plan.wait == (() if deleted else (PACK,))
    assert (plan.deleted_bytes, plan.waiting_bytes) == ((7, 0) if deleted else (0, 7))


def test_what_is_referenced_stays_however_old_its_mark_is() -> None:
    plan = plan_sweep({PACK: 1}, {PACK}, {PACK: T0}, start=T0 + 100 * GRACE, grace=GRACE)

    assert (plan.delete, plan.wait) == ((), ())


def test_what_was_never_marked_waits() -> None:
    plan = plan_sweep({PACK: 1}, set(), {}, start=T0 + 100 * GRACE, grace=GRACE)

    assert (plan.delete, plan.wait) == ((), (PACK,))


def test_recipes_go_before_packs() -> None:
    marks = dict.fromkeys((PACK, RECIPE), T0)
    plan = plan_sweep({PACK: 1, RECIPE: 1}, set(), marks, start=T0 + 2 * GRACE, grace=GRACE)

    assert plan.delete == (RECIPE, PACK)


def test_without_a_grace_period_no_mark_is_needed() -> None:
    plan = plan_sweep({PACK: 1, OTHER: 1}, {OTHER}, {}, start=T0, grace=timedelta())

    assert plan.delete == (PACK,)


def test_what_is_marked_and_not_there_is_of_no_interest() -> None:
    plan = plan_sweep({}, set(), {PACK: T0}, start=T0 + 2 * GRACE, grace=GRACE)

    assert (plan.delete, plan.wait) == ((), ())


events = st.lists(
    st.tuples(
        st.sampled_from(["mark", "removed", "everything"]),
        st.integers(0, 200),  # hours at which the run began
        st.integers(0, 6),  # hours until it noted down
        st.sets(st.sampled_from([PACK, OTHER, RECIPE])),
    ),
    max_size=12,
)


@given(events)
def test_marks_are_those_of_the_rule_said_plainly(
    runs: list[tuple[str, int, int, set[ObjectName]]],
) -> None:
    notes = []
    for number, (what, began, took, objects) in enumerate(runs):
        kind: GcKind = "mark" if what == "mark" else "removed"
        notes.append(note("start", f"{number}", began))
        everything = what == "everything"
        notes.append(note(kind, f"{number}", began + took, *objects, everything=everything))

    def counts(mark: tuple[str, int, int, set[ObjectName]], name: ObjectName) -> bool:
        return (
            mark[0] == "mark"
            and name in mark[3]
            and not any(
                what == "everything" or (what == "removed" and name in objects)
                for what, began, took, objects in runs
                if began + took >= mark[1]
            )
        )

    expected = {}
    for name in (PACK, OTHER, RECIPE):
        times = [mark[1] + mark[2] for mark in runs if counts(mark, name)]
        if times:
            expected[name] = T0 + timedelta(hours=min(times))
    assert effective_marks(notes) == expected


def test_what_waits_is_told_since_its_oldest_mark() -> None:
    marks = {PACK: T0 - timedelta(hours=40), OTHER: T0 - timedelta(hours=3)}
    sizes = {PACK: 1, OTHER: 2, RECIPE: 4}

    plan = plan_sweep(sizes, (), marks, start=T0, grace=GRACE)
    assert (plan.delete, plan.waiting_since) == ((PACK,), T0 - timedelta(hours=3))
    plan = plan_sweep({RECIPE: 4}, (), marks, start=T0, grace=GRACE)
    assert (plan.wait, plan.waiting_since) == ((RECIPE,), None)
