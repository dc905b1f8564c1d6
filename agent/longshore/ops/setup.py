"""Bring a bucket into the state that a store wants: plan, ask, do, and look whether it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from longshore.core.bucket_plan import BucketState, Name, Step, Unknown, Wanted, plan_bucket
from longshore.errors import StoreError
from longshore.ops.report import Report
from longshore.store.s3_errors import Unsupported

Plan = tuple[Step, ...]


class Bucket(Protocol):
    """What is asked of a bucket; all of it blocks."""

    def read(self) -> BucketState | None:
        """Read all properties; `None` if there is no such bucket."""

    def create(self) -> None:
        """Create it."""

    def cannot_encrypt(self, step: Step, prefix: str) -> Unknown | None:
        """Tell why the encryption of a step would make every upload fail, if it would."""

    def write(self, step: Step) -> None:
        """Write one property."""


class SetupResult(Struct, frozen=True):
    """What was planned, and what came of it.

    Attributes:
        plan: as it was shown.
        done: what was written, and was there when it was looked for.
        problems: why something was not done, or did not last.
        agreed: whether it was to be done; `None` if nobody was asked.
    """

    plan: Plan
    done: frozenset[Name]
    problems: dict[Name, str]
    agreed: bool | None

    @property
    def to_do(self) -> int:
        """How many changes were planned."""
        return sum(step.writes for step in self.plan)


async def set_up_bucket(
    bucket: Bucket,
    wanted: Wanted,
    *,
    agree: Callable[[Plan], Awaitable[bool]] | None,
    report: Report,
) -> SetupResult:
    """Make a bucket what it should be. What is right already is not written.

    A property that cannot be written is reported, and the others are written all the same.

    Args:
        agree: is shown the plan if there is something to do, and says whether it is done; `None`
            to stop after the plan.

    Raises:
        StoreError: the bucket cannot be read, or cannot be created.
    """
    state, plan = await _look(bucket, wanted)
    if agree is None or not any(step.writes for step in plan):
        return SetupResult(plan, frozenset(), {}, None)
    if not await agree(plan):
        return SetupResult(plan, frozenset(), {}, False)
    steps = plan
    if state is None:
        await asyncio.to_thread(bucket.create)
        # A new bucket has most of it by itself, depending on who runs it.
        _, steps = await _look(bucket, wanted)
    problems: dict[Name, str] = {}
    for step in steps:
        if step.name != "bucket" and step.writes:
            await _write(bucket, step, problems, report)
    done = set()
    _, found = await _look(bucket, wanted)
    for step in found:
        if step.verdict == "right":
            done.add(step.name)
        elif step.name in problems:
            continue
        elif step.writes:
            problems[step.name] = "the server took it, and does not have it now"
            report.warn(StoreError(f"{step.text}: {problems[step.name]}"))
        else:
            problems[step.name] = step.now
    changed = {step.name for step in plan if step.writes}
    return SetupResult(
        plan,
        frozenset(done & changed),
        {name: text for name, text in problems.items() if name in changed},
        True,
    )


async def _look(bucket: Bucket, wanted: Wanted) -> tuple[BucketState | None, Plan]:
    state = await asyncio.to_thread(bucket.read)
    plan = plan_bucket(state, wanted)
    for step in plan:
        if state is not None and step.name == "encryption" and step.writes:
            cannot = await asyncio.to_thread(bucket.cannot_encrypt, step, wanted.place.prefix)
            if cannot is not None:
                state = replace(state, encryption=cannot)
    return state, plan_bucket(state, wanted)


async def _write(bucket: Bucket, step: Step, problems: dict[Name, str], report: Report) -> None:
    try:
        await asyncio.to_thread(bucket.write, step)
    except Unsupported as error:
        problems[step.name] = str(error)  # nobody can do anything about it
    except StoreError as error:
        problems[step.name] = str(error)
        report.warn(error)
