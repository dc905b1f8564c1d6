"""Setting up a bucket: nothing without consent, nothing twice, no failure stops the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from longshore.core.bucket_plan import BucketState, Name, Property, Step, Unknown, Wanted
from longshore.core.policy import Place
from longshore.errors import AccessDenied, LongshoreError, StoreError
from longshore.ops.report import Report
from longshore.ops.setup import Plan, SetupResult, set_up_bucket
from longshore.store.s3_errors import Unsupported

WANTED = Wanted(Place("my-cache", "cache"), None, 2)
FIELDS: Final[dict[Name, str]] = {
    "ownership": "ownership",
    "encryption": "encryption",
    "tls": "policy",
    "public-access": "public_access",
    "uploads": "lifecycle",
}


@dataclass
class FakeBucket:
    """A bucket in memory, and what was asked of it."""

    state: BucketState | None = None
    when_new: BucketState = field(default_factory=BucketState)
    failures: dict[Name, StoreError] = field(default_factory=dict)
    refuses_encrypted: Unknown | None = None
    forgets: set[Name] = field(default_factory=set)
    written: list[str] = field(default_factory=list)

    def read(self) -> BucketState | None:
        return self.state

    def create(self) -> None:
        self.written.append("bucket")
        self.state = self.when_new

    def cannot_encrypt(self, step: Step, prefix: str) -> Unknown | None:
        assert self.state is not None
        assert step.writes
        assert prefix == "cache/"
        return self.refuses_encrypted

    def write(self, step: Step) -> None:
        self.written.append(step.name)
        if step.name in self.failures:
            raise self.failures[step.name]
        assert self.state is not None
        value: dict[str, Property] = {FIELDS[step.name]: step.value}
        if step.name not in self.forgets:
            self.state = replace(self.state, **value)


class Recorder(Report):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, error: LongshoreError, text: str | None = None) -> None:
        self.warnings.append(str(error))


async def set_up(
    bucket: FakeBucket, *, consent: bool | None = True
) -> tuple[SetupResult, list[str]]:
    asked: list[Plan] = []

    async def agree(plan: Plan) -> bool:
        assert bucket.written == [], "nothing is written before"
        asked.append(plan)
        return bool(consent)

    report = Recorder()
    result = await set_up_bucket(
        bucket, WANTED, agree=None if consent is None else agree, report=report
    )
    if consent is not None and result.to_do:
        assert asked == [result.plan]
    else:
        assert asked == []
    return result, report.warnings


async def test_a_missing_bucket_is_created_and_made_right() -> None:
    bucket = FakeBucket()

    result, warnings = await set_up(bucket)

    names = ["bucket", "ownership", "encryption", "tls", "public-access", "uploads"]
    assert bucket.written == names
    assert result.done == set(names)
    assert (result.problems, result.agreed, warnings) == ({}, True, [])


async def test_the_second_time_nothing_is_asked_or_written() -> None:
    bucket = FakeBucket()
    await set_up(bucket)
    bucket.written.clear()

    result, _ = await set_up(bucket)

    assert bucket.written == []
    assert (result.to_do, result.done, result.agreed) == (0, frozenset(), None)


async def test_what_a_new_bucket_has_by_itself_is_not_written() -> None:
    bucket = FakeBucket()
    await set_up(bucket)
    assert bucket.state is not None
    new = FakeBucket(when_new=replace(bucket.state, lifecycle=None))

    result, _ = await set_up(new)

    assert new.written == ["bucket", "uploads"]
    assert len(result.done) == 6


async def test_nothing_is_written_without_consent_or_after_a_dry_run() -> None:
    for consent in (False, None):
        bucket = FakeBucket(BucketState())

        result, _ = await set_up(bucket, consent=consent)

        assert bucket.written == []
        assert (result.to_do, result.done, result.agreed) == (5, frozenset(), consent)


async def test_a_step_that_fails_is_reported_and_the_others_are_done() -> None:
    denied = AccessDenied("cannot set the lifecycle rules: access denied")
    bucket = FakeBucket(BucketState(), failures={"encryption": denied})

    result, warnings = await set_up(bucket)

    assert bucket.written == ["ownership", "encryption", "tls", "public-access", "uploads"]
    assert result.done == {"ownership", "tls", "public-access", "uploads"}
    assert result.problems == {"encryption": str(denied)}
    assert warnings == [str(denied)]


async def test_what_the_server_lacks_is_found_out_and_no_failure() -> None:
    lacks = Unsupported("this server has no default encryption")
    bucket = FakeBucket(BucketState(), failures={"encryption": lacks})

    result, warnings = await set_up(bucket)

    assert result.problems == {"encryption": "this server has no default encryption"}
    assert warnings == []


async def test_what_a_new_bucket_turns_out_to_lack_is_no_failure() -> None:
    lacks = Unknown("this server has no block of public access", unsupported=True)
    bucket = FakeBucket(when_new=BucketState(public_access=lacks))

    result, warnings = await set_up(bucket)

    assert result.problems == {"public-access": lacks.reason}
    assert "public-access" not in bucket.written
    assert warnings == []


async def test_what_the_server_takes_and_does_not_keep_is_a_failure() -> None:
    bucket = FakeBucket(BucketState(), forgets={"uploads"})

    result, warnings = await set_up(bucket)

    assert "uploads" not in result.done
    assert "does not have it" in result.problems["uploads"]
    assert len(warnings) == 1


async def test_a_property_that_cannot_be_read_is_not_written() -> None:
    denied: Any = Unknown("access denied")
    bucket = FakeBucket(BucketState(policy=denied))

    result, _ = await set_up(bucket)

    assert "tls" not in bucket.written
    assert [step.verdict for step in result.plan if step.name == "tls"] == ["refused"]


async def test_an_encryption_that_would_make_uploads_fail_is_never_written() -> None:
    refuses = Unknown("this server refuses objects that are encrypted so", unsupported=True)
    for state in (None, BucketState()):
        bucket = FakeBucket(state, refuses_encrypted=refuses)

        result, warnings = await set_up(bucket)

        assert "encryption" not in bucket.written
        assert "encryption" not in result.done
        assert warnings == []
        bucket.written.clear()
        again, _ = await set_up(bucket)
        assert (again.to_do, bucket.written) == (0, [])
