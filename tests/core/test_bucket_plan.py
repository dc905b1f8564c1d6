"""What a bucket lacks is planned, what it has is left alone, and nothing of others is lost."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.iam import allows

from longshore.core.bucket_lifecycle import abort_rule, rule_id, with_abort_rule
from longshore.core.bucket_plan import BucketState, Property, Step, Unknown, Wanted, plan_bucket
from longshore.core.bucket_policy import TLS_ONLY, is_tls_only, tls_statement, with_tls_only
from longshore.core.policy import Place

KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
PLACE = Place("my-cache", "team/cache")
WANTED = Wanted(PLACE, "eu-west-1", 2)
BLOCKED = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
RIGHT = BucketState(
    region="eu-west-1",
    ownership={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
    encryption={"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]},
    policy={"Version": "2012-10-17", "Statement": [tls_statement(PLACE)]},
    public_access=BLOCKED,
    lifecycle={"Rules": [abort_rule("team/cache/", 2)]},
)


def with_(**properties: Any) -> BucketState:
    fields = ("region", "ownership", "encryption", "policy", "public_access", "lifecycle")
    return BucketState(**{f: getattr(RIGHT, f) for f in fields} | properties)


def step(name: str, state: BucketState | None, wanted: Wanted = WANTED) -> Step:
    (found,) = (step for step in plan_bucket(state, wanted) if step.name == name)
    return found


def test_nothing_is_written_to_a_bucket_that_is_right() -> None:
    plan = plan_bucket(RIGHT, WANTED)

    assert [one.verdict for one in plan] == ["right"] * 6
    assert not any(one.value for one in plan)


def test_everything_is_planned_for_a_bucket_that_is_missing() -> None:
    plan = plan_bucket(None, WANTED)

    assert [one.verdict for one in plan] == ["create"] * 6
    assert plan[0].text == "the bucket my-cache exists in eu-west-1"


def test_writing_what_is_planned_makes_the_bucket_right() -> None:
    wanted = Wanted(Place("my-cache", "team/cache", kms_key=KEY), None, 2)
    plan = {one.name: one.value for one in plan_bucket(BucketState(), wanted)}

    after = BucketState(
        ownership=plan["ownership"],
        encryption=plan["encryption"],
        policy=plan["tls"],
        public_access=plan["public-access"],
        lifecycle=plan["uploads"],
    )
    assert not any(one.writes for one in plan_bucket(after, wanted))


@pytest.mark.parametrize("off", list(BLOCKED))
def test_public_access_has_to_be_blocked_in_all_four_ways(off: str) -> None:
    found = step("public-access", with_(public_access={**BLOCKED, off: False}))

    assert (found.verdict, found.now, found.value) == ("change", f"off: {off}", BLOCKED)


def test_acls_are_to_count_for_nothing() -> None:
    state = with_(ownership={"Rules": [{"ObjectOwnership": "ObjectWriter"}]})

    found = step("ownership", state)

    assert (found.verdict, found.now) == ("change", "ObjectWriter: ACLs count")
    assert found.value == RIGHT.ownership


def encryption(algorithm: str, key: str | None = None, **more: Any) -> dict[str, Any]:
    default = {"SSEAlgorithm": algorithm} | ({"KMSMasterKeyID": key} if key else {})
    return {"Rules": [{"ApplyServerSideEncryptionByDefault": default, **more}]}


@pytest.mark.parametrize("algorithm", ["AES256", "aws:kms", "aws:kms:dsse"])
def test_an_encryption_that_somebody_chose_is_never_weakened(algorithm: str) -> None:
    assert step("encryption", with_(encryption=encryption(algorithm, KEY))).verdict == "right"


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (encryption("aws:kms", KEY, BucketKeyEnabled=True), "right"),
        (encryption("aws:kms", KEY, BucketKeyEnabled=False), "change"),
        (encryption("aws:kms", KEY[:-1] + "c", BucketKeyEnabled=True), "change"),
        (encryption("AES256"), "change"),
        (None, "create"),
    ],
)
def test_a_given_key_is_the_one_that_encrypts(found: Property, verdict: str) -> None:
    wanted = Wanted(Place("my-cache", kms_key=KEY), None, 2)

    planned = step("encryption", with_(encryption=found), wanted)

    assert planned.verdict == verdict
    if planned.value is not None:
        assert planned.value == encryption("aws:kms", KEY, BucketKeyEnabled=True)


def test_what_else_a_rule_of_encryption_says_is_kept() -> None:
    blocked = {"EncryptionType": ["SSE-C"]}
    state = with_(encryption=encryption("AES256", BlockedEncryptionTypes=blocked))

    planned = step("encryption", state, Wanted(Place("my-cache", kms_key=KEY), None, 2))

    assert planned.value is not None
    assert planned.value["Rules"][0]["BlockedEncryptionTypes"] == blocked


def test_a_bucket_in_another_region_is_noted() -> None:
    notes = step("bucket", with_(region="us-east-1")).notes

    assert notes == ("it is not in eu-west-1, and buckets cannot be moved",)


def test_what_the_server_lacks_or_does_not_tell_is_never_written() -> None:
    lacking = BucketState(public_access=Unknown("this server has none", unsupported=True))
    denied = BucketState(policy=Unknown("access denied"))

    lacks, hides = step("public-access", lacking), step("tls", denied)

    assert (lacks.verdict, lacks.now, lacks.value) == ("unsupported", "this server has none", None)
    assert (hides.verdict, hides.now, hides.value) == ("refused", "access denied", None)


def test_tls_is_left_out_where_it_would_lock_everybody_out() -> None:
    found = step("tls", BucketState(), Wanted(PLACE, None, 2, tls=False, why_no_tls="a proxy"))

    assert (found.verdict, found.now, found.value) == ("left out", "a proxy", None)


# Policies


def test_requests_without_tls_are_denied_and_others_are_not() -> None:
    policy = with_tls_only({"Statement": [{"Effect": "Allow", "Action": "*"}]}, PLACE)

    for resource in ("arn:aws:s3:::my-cache", "arn:aws:s3:::my-cache/team/cache/x"):
        for action in ("s3:GetObject", "s3:ListBucket", "s3:PutObject"):
            assert not allows(policy, action, resource, {"aws:SecureTransport": "false"})
            assert allows(policy, action, resource, {"aws:SecureTransport": "true"})


statements = st.fixed_dictionaries(
    {"Effect": st.sampled_from(["Allow", "Deny"]), "Action": st.text(max_size=9)},
    optional={
        "Sid": st.text(max_size=9) | st.sampled_from([TLS_ONLY.lower(), f"{TLS_ONLY}2"]),
        "Principal": st.sampled_from(["*", {"AWS": "*"}, {"AWS": ["arn:aws:iam::1:root"]}]),
        "Resource": st.sampled_from(["*", "arn:aws:s3:::my-cache/*"]),
        "Condition": st.dictionaries(st.sampled_from(["Bool", "Null"]), st.just({})),
    },
)
policies = st.none() | st.fixed_dictionaries(
    {"Version": st.just("2012-10-17"), "Statement": st.lists(statements) | statements},
    optional={"Id": st.text(max_size=9)},
)


@given(policies)
def test_no_statement_of_others_is_ever_lost_or_moved(policy: dict[str, Any] | None) -> None:
    before = copy.deepcopy(policy)

    after = with_tls_only(policy, PLACE)

    assert policy == before
    theirs = [] if before is None else before["Statement"]
    theirs = theirs if isinstance(theirs, list) else [theirs]
    assert after["Statement"] == [*theirs, tls_statement(PLACE)]
    assert {k: v for k, v in after.items() if k != "Statement"} == {
        k: v for k, v in (before or {"Version": "2012-10-17"}).items() if k != "Statement"
    }
    assert is_tls_only(after, PLACE)
    assert with_tls_only(after, PLACE) == after


def test_an_older_statement_of_ours_is_replaced() -> None:
    old = {**tls_statement(PLACE), "Action": "s3:GetObject"}
    other = {"Sid": "Theirs", "Effect": "Allow"}

    found = step("tls", with_(policy={"Statement": [old, other]}))

    assert found.value == {"Statement": [other, tls_statement(PLACE)]}
    assert found.now == "the policy does not; it keeps its 1 other statement"


@pytest.mark.parametrize(
    "change",
    [
        {"Sid": "DenyInsecure"},
        {"Principal": {"AWS": "*"}},
        {"Principal": {"AWS": ["*"]}},
        {"Action": ["s3:*"]},
        {"Condition": {"Bool": {"aws:SecureTransport": ["false"]}}},
        {"Condition": {"Bool": {"aws:SecureTransport": False}}},
    ],
)
def test_a_statement_of_others_that_does_the_same_is_enough(change: dict[str, Any]) -> None:
    statement = {**tls_statement(PLACE), **change}

    assert step("tls", with_(policy={"Statement": statement})).verdict == "right"


@pytest.mark.parametrize(
    "change",
    [
        {"Effect": "Allow"},
        {"Principal": {"AWS": "arn:aws:iam::123456789012:root"}},
        {"Action": "s3:GetObject"},
        {"Resource": "arn:aws:s3:::my-cache/*"},
        {"Condition": {"Bool": {"aws:SecureTransport": "true"}}},
        {"Condition": {"Bool": {"aws:SecureTransport": "false", "aws:ViaAWSService": "false"}}},
        {"Condition": {**tls_statement(PLACE)["Condition"], "StringEquals": {"aws:x": "y"}}},
        {"Condition": {"NumericLessThan": {"s3:TlsVersion": "1.2"}}},
        {"Condition": None},
    ],
)
def test_a_statement_that_does_less_is_not_enough(change: dict[str, Any]) -> None:
    statement = {**tls_statement(PLACE), "Sid": "Theirs", **change}

    found = step("tls", with_(policy={"Statement": [statement]}))

    assert found.value == {"Statement": [statement, tls_statement(PLACE)]}


@pytest.mark.parametrize("policy", [{"Statement": ["x"]}, {"Statement": None}])
def test_a_policy_that_is_none_is_not_touched(policy: dict[str, Any]) -> None:
    found = step("tls", with_(policy=policy))

    assert (found.verdict, found.value) == ("refused", None)


# Lifecycle rules

rules = st.fixed_dictionaries(
    {"Status": st.sampled_from(["Enabled", "Disabled"])},
    optional={
        "ID": st.text(max_size=9) | st.sampled_from([rule_id("team/"), rule_id("")]),
        "Filter": st.sampled_from([{}, {"Prefix": ""}, {"Prefix": "logs/"}, {"Tag": {}}]),
        "Prefix": st.sampled_from(["", "logs/"]),
        "Expiration": st.just({"Days": 30}),
        "AbortIncompleteMultipartUpload": st.just({"DaysAfterInitiation": 30}),
    },
)


@given(st.lists(rules))
def test_no_rule_of_others_is_ever_lost_or_moved(theirs: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(theirs)

    after = with_abort_rule(theirs, "team/cache/", 2)

    assert theirs == before
    assert after == [*before, abort_rule("team/cache/", 2)]
    assert with_abort_rule(after, "team/cache/", 2) == after


def test_two_stores_in_one_bucket_have_two_rules() -> None:
    first = with_abort_rule([], "a/", 2)

    assert with_abort_rule(first, "b/", 2) == [abort_rule("a/", 2), abort_rule("b/", 2)]
    assert len({rule_id(prefix) for prefix in ("", "a/", "b/", "a", "x" * 300, "x" * 301)}) == 6


def test_a_rule_of_ours_with_another_time_is_changed() -> None:
    lifecycle = {
        "Rules": [abort_rule("team/cache/", 30)],
        "TransitionDefaultMinimumObjectSize": "x",
    }

    found = step("uploads", with_(lifecycle=lifecycle))

    assert found.verdict == "change"
    assert found.value == {**lifecycle, "Rules": [abort_rule("team/cache/", 2)]}


@pytest.mark.parametrize("where", [{"Filter": {"Prefix": "team/"}}, {"Filter": {}}, {"Prefix": ""}])
def test_a_rule_of_others_that_aborts_our_uploads_is_enough(where: dict[str, Any]) -> None:
    theirs = {
        "ID": "theirs",
        "Status": "Enabled",
        **where,
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }

    assert step("uploads", with_(lifecycle={"Rules": [theirs]})).verdict == "right"


@pytest.mark.parametrize(
    "change",
    [
        {"Status": "Disabled"},
        {"Filter": {"Prefix": "team/cache/x"}},
        {"Filter": {"And": {"Prefix": "", "Tags": [{"Key": "a", "Value": "b"}]}}},
        {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 8}},
        {"AbortIncompleteMultipartUpload": {}},
    ],
)
def test_a_rule_of_others_that_does_less_is_not_enough(change: dict[str, Any]) -> None:
    theirs = {**abort_rule("", 7), "ID": "theirs", **change}

    found = step("uploads", with_(lifecycle={"Rules": [theirs]}))

    assert found.value == {"Rules": [theirs, abort_rule("team/cache/", 2)]}


@pytest.mark.parametrize(
    ("rule", "harms"),
    [
        ({"Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}, True),
        ({"Prefix": "team/", "Expiration": {"Date": "2027-01-01"}}, True),
        ({"Filter": {"Prefix": "team/cache/shop/"}, "Expiration": {"Days": 30}}, True),
        ({"Filter": {}, "Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}, True),
        ({"Filter": {}, "Transitions": [{"Days": 1, "StorageClass": "STANDARD_IA"}]}, False),
        ({"Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}}, False),
        ({"Filter": {"Tag": {"Key": "a", "Value": "b"}}, "Expiration": {"Days": 30}}, False),
        ({"Filter": {}, "Expiration": {"ExpiredObjectDeleteMarker": True}}, False),
        ({"Filter": {}, "Expiration": {"Days": 30}, "Status": "Disabled"}, False),
        ({"Filter": {}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}, False),
    ],
)
def test_a_rule_that_deletes_what_a_build_needs_is_noted(rule: dict[str, Any], harms: bool) -> None:
    theirs = {"ID": "theirs", "Status": "Enabled", **rule}

    notes = step("uploads", with_(lifecycle={"Rules": [theirs]})).notes

    assert bool(notes) == harms
    assert not harms or "'theirs'" in notes[0]
