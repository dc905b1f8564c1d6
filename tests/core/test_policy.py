"""A grant's policy allows what its build needs, and nothing of anybody else's."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests.support.iam import allows, matches
from tests.support.names import keys_of, names, roots

from longshore.core.keys import entries_prefix, scope_prefix, scopes_prefix, segment
from longshore.core.policy import (
    MAX_POLICY_CHARACTERS,
    Grant,
    Place,
    check_kms_key,
    check_role,
    check_session_name,
    compact,
    partition_of,
    session_name,
    session_policy,
    session_policy_text,
)
from longshore.errors import UsageError

ID = "019424f8-632e-7001-8203-040506070809"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
READS = ("s3:GetObject",)
WRITES = ("s3:PutObject", "s3:AbortMultipartUpload")
OTHERS = (
    *("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObjectVersion", "s3:PutObjectAcl"),
    *("s3:PutObjectTagging", "s3:ListMultipartUploadParts", "s3:GetObjectAcl", "s3:RestoreObject"),
    *("s3:BypassGovernanceRetention", "s3:PutObjectRetention", "s3:ReplicateObject"),
)
OF_BUCKET = (
    *("s3:ListBucketMultipartUploads", "s3:ListBucketVersions", "s3:DeleteBucket"),
    *("s3:PutBucketPolicy", "s3:GetBucketPolicy", "s3:PutLifecycleConfiguration"),
    *("s3:GetBucketLocation", "s3:PutEncryptionConfiguration", "s3:CreateBucket"),
)


def may(grant: Grant, action: str, key: str) -> bool:
    return allows(session_policy(grant), action, f"arn:aws:s3:::bucket/{grant.place.prefix}{key}")


def may_list(grant: Grant, prefix: str | None) -> bool:
    context = {} if prefix is None else {"s3:prefix": prefix}
    return allows(session_policy(grant), "s3:ListBucket", "arn:aws:s3:::bucket", context)


def grant(
    project: str = "shop",
    scope: str = "pr:1",
    *fallback: str,
    root: str = "cache",
    read_only: bool = False,
) -> Grant:
    return Grant(Place("bucket", root), project, scope, fallback, read_only)


@given(names, names, names, names, roots)
@example("shop", "pr:1", "main", "web", "cache")
def test_what_an_export_and_an_import_use_is_allowed(
    project: str, scope: str, fallback: str, service: str, root: str
) -> None:
    given_ = grant(project, scope, fallback, root=root)

    for key in keys_of(project, scope, service):
        assert all(may(given_, action, key) for action in (*READS, *WRITES))
    for key in keys_of(project, fallback, service):
        assert all(may(given_, action, key) for action in READS)
    for each in (scope, fallback):
        folder = given_.place.prefix + scope_prefix(project, each)
        for prefix in (folder, f"{folder}entries/", f"{folder}packs/", f"{folder}recipes/"):
            assert may_list(given_, prefix)
        assert may_list(given_, given_.place.prefix + entries_prefix(project, each, service))


@given(names, names, names, names, names, roots)
@example("a", "main", "x", "ab", "main", "")
@example("a", "main", "x", "a-evil", "main", "")
@example("a", "pr:1", "main", "a", "pr:12", "")
@example("a", "a", "a/b", "a", "a/b/c", "")
def test_no_key_of_another_scope_or_project_is_reached(
    project: str, scope: str, fallback: str, other_project: str, other_scope: str, root: str
) -> None:
    given_ = grant(project, scope, fallback, root=root)
    assume((other_project, other_scope) not in ((project, scope), (project, fallback)))

    for key in keys_of(other_project, other_scope):
        assert not any(may(given_, action, key) for action in (*READS, *WRITES, *OTHERS))
    folder = given_.place.prefix + scope_prefix(other_project, other_scope)
    for prefix in (folder, f"{folder}entries/"):
        assert not may_list(given_, prefix)


@given(names, names, names, roots)
def test_a_fallback_scope_is_not_written(
    project: str, scope: str, fallback: str, root: str
) -> None:
    assume(scope != fallback)
    given_ = grant(project, scope, fallback, root=root)

    for key in keys_of(project, fallback):
        assert not any(may(given_, action, key) for action in (*WRITES, *OTHERS))


@given(names, names, roots)
def test_nothing_above_a_scope_is_listed_or_touched(project: str, scope: str, root: str) -> None:
    given_ = grant(project, scope, root=root)
    top = given_.place.prefix
    folder = scope_prefix(project, scope)

    for prefix in (None, "", top, top + segment(project), f"{top}{segment(project)}/"):
        assert not may_list(given_, prefix)
    for prefix in (scopes_prefix(project), folder.removesuffix("/"), folder[:-2]):
        assert not may_list(given_, top + prefix)
    for key in (f"{segment(project)}/gc/{ID}.mark", f"{segment(project)}/x", folder[:-1], "x"):
        assert not any(may(given_, action, key) for action in (*READS, *WRITES, *OTHERS))


@given(names, names)
def test_who_only_reads_writes_nowhere(project: str, scope: str) -> None:
    given_ = grant(project, scope, read_only=True)

    for key in keys_of(project, scope):
        assert all(may(given_, action, key) for action in READS)
        assert not any(may(given_, action, key) for action in (*WRITES, *OTHERS))


def test_nothing_else_is_allowed() -> None:
    given_ = grant("shop", "pr:1", "main")
    policy = session_policy(given_)

    for key in keys_of("shop", "pr:1"):
        assert not any(may(given_, action, key) for action in OTHERS)
    for action in (*OF_BUCKET, *OTHERS):
        assert not allows(policy, action, "arn:aws:s3:::bucket", {"s3:prefix": "cache/shop/"})
    for action in ("sts:AssumeRole", "iam:PassRole", "kms:Decrypt", "s3:ListAllMyBuckets"):
        assert not allows(policy, action, "*")
    assert not allows(policy, "s3:GetObject", "arn:aws:s3:::bucket-2/cache/shop/scopes/pr~3A1/x")


def test_policy_in_full() -> None:
    assert session_policy(grant("shop", "pr:1", "main")) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "s3:ListBucket",
                "Resource": "arn:aws:s3:::bucket",
                "Condition": {
                    "StringLike": {
                        "s3:prefix": ["cache/shop/scopes/pr~3A1/*", "cache/shop/scopes/main/*"]
                    }
                },
            },
            {
                "Effect": "Allow",
                "Action": "s3:GetObject",
                "Resource": [
                    "arn:aws:s3:::bucket/cache/shop/scopes/pr~3A1/*",
                    "arn:aws:s3:::bucket/cache/shop/scopes/main/*",
                ],
            },
            {
                "Effect": "Allow",
                "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
                "Resource": "arn:aws:s3:::bucket/cache/shop/scopes/pr~3A1/*",
            },
        ],
    }


@pytest.mark.parametrize(
    ("read_only", "actions"),
    [(False, ["kms:GenerateDataKey", "kms:Decrypt"]), (True, "kms:Decrypt")],
)
def test_a_key_may_be_used_as_far_as_objects_need_it(read_only: bool, actions: Any) -> None:
    place = Place("bucket", "cache", kms_key=KEY)

    policy = session_policy(Grant(place, "shop", "main", (), read_only))

    assert policy["Statement"][-1] == {"Effect": "Allow", "Action": actions, "Resource": KEY}


def test_the_partition_is_the_roles() -> None:
    partition = partition_of("arn:aws-cn:iam::123456789012:role/path/builder")
    policy = session_policy_text(Grant(Place("bucket", partition=partition), "shop", "main"))

    assert set(re.findall(r"arn:[a-z-]+", policy)) == {"arn:aws-cn"}


@pytest.mark.parametrize("root", ["a*", "a?b", "${aws:username}", "a/$", "{a}"])
def test_a_root_with_a_meaning_in_policies_is_refused(root: str) -> None:
    with pytest.raises(UsageError, match="prefix"):
        Place("bucket", root)


@pytest.mark.parametrize("bucket", ["", "*", "a/b", "bucket*", "b?cket", "bucket/x", "a" * 300])
def test_what_is_no_bucket_is_refused(bucket: str) -> None:
    with pytest.raises(UsageError, match="bucket"):
        Place(bucket)


@pytest.mark.parametrize(
    "arn", ["*", KEY.replace("key/", "alias/"), "1234abcd", f"{KEY}*", KEY.replace("kms", "s3")]
)
def test_what_is_no_key_is_refused(arn: str) -> None:
    with pytest.raises(UsageError, match="KMS"):
        check_kms_key(arn)


@pytest.mark.parametrize("arn", ["builder", "arn:aws:iam::1:role/x", "arn:aws:iam::*:role/*", ""])
def test_what_is_no_role_is_refused(arn: str) -> None:
    with pytest.raises(UsageError, match="role"):
        check_role(arn)


@pytest.mark.parametrize(
    "arn", ["arn:aws:iam:::role/longshore-shop", "arn:aws:iam::123456789012:role/b"]
)
def test_roles_of_aws_and_of_ceph_are_accepted(arn: str) -> None:
    assert check_role(arn) == arn


@given(names, names, st.lists(names, max_size=30))
def test_a_policy_is_short_enough_or_the_way_out_is_named(
    project: str, scope: str, fallback: list[str]
) -> None:
    given_ = grant(project, scope, *fallback)
    whole = compact(session_policy(given_))

    if len(whole) > MAX_POLICY_CHARACTERS:
        with pytest.raises(UsageError, match="leave out --fallback"):
            session_policy_text(given_)
    else:
        assert session_policy_text(given_) == whole
        assert whole.isascii()
        assert json.loads(whole) == session_policy(given_)


def test_the_scopes_to_leave_out_are_those_that_do_not_fit() -> None:
    scopes = [f"release/{number:02}" for number in range(40)]

    with pytest.raises(UsageError, match=r"has \d+ characters, and STS takes 2048") as caught:
        session_policy_text(grant("shop", "main", *scopes))

    left_out = str(caught.value).partition("--fallback ")[2].split()
    kept = scopes[: -len(left_out)]
    assert [*kept, *left_out] == scopes
    session_policy_text(grant("shop", "main", *kept))
    with pytest.raises(UsageError):
        session_policy_text(grant("shop", "main", *kept, left_out[0]))


def test_a_root_that_leaves_no_room_is_named() -> None:
    with pytest.raises(UsageError, match="shorter prefix"):
        session_policy_text(grant(root="r" * 900))


@given(names, names)
@example("shop", "pr:17")
@example("shop", "x" * 64)
def test_a_session_is_named_for_its_grant(project: str, scope: str) -> None:
    name = session_name(project, scope)

    assert check_session_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_=,.@-]{2,64}", name)  # Ceph, src/rgw/rgw_sts.cc


def test_a_session_name_can_be_read() -> None:
    assert session_name("shop", "pr:17") == "pr=3A17@shop"


@given(names, names, names, names)
def test_two_grants_have_two_session_names(a: str, b: str, c: str, d: str) -> None:
    assume((a, b) != (c, d))

    assert session_name(a, b) != session_name(c, d)


@pytest.mark.parametrize("name", ["", "a", "a b", "a:b", "é" * 3, "x" * 65, "a\n"])
def test_what_is_no_session_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="session"):
        check_session_name(name)


@pytest.mark.parametrize(
    ("pattern", "text", "same"),
    [
        ("a*", "a", True),
        ("a*", "a/b/c", True),
        ("a/*", "a", False),
        ("a*c", "abbc/c", True),
        ("a*c", "abbcd", False),
        ("a?", "a", False),
        ("a?", "ab", True),
        ("*", "", True),
        ("", "", True),
        ("", "a", False),
        ("s3:Get*", "s3:PutObject", False),
    ],
)
def test_the_tests_own_matcher_follows_iam(pattern: str, text: str, same: bool) -> None:
    assert matches(pattern, text) == same
