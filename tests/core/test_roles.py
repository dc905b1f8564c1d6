"""Roles allow what their sessions need, and the right people to take them."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests.support.iam import allows, may_assume
from tests.support.names import keys_of, names, roots

from longshore.core.ceph_roles import admin_commands, ceph_roles
from longshore.core.keys import scope_prefix, scopes_prefix, segment
from longshore.core.oidc_roles import oidc_roles
from longshore.core.policy import Grant, Place, session_policy
from longshore.core.roles import (
    Role,
    broker_role,
    check_principal,
    check_sizes,
    prune_role,
    role_name,
)
from longshore.core.subjects import parse_issuer, subjects_of
from longshore.errors import UsageError

ID = "019424f8-632e-7001-8203-040506070809"
BROKER = "arn:aws:iam::123456789012:role/broker"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
CEPH_BROKER = "arn:aws:iam:::user/broker"
ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload")
OTHERS = (
    *("s3:DeleteObjectVersion", "s3:GetObjectVersion", "s3:PutObjectAcl", "s3:PutObjectTagging"),
    *("s3:ListMultipartUploadParts", "s3:BypassGovernanceRetention", "s3:RestoreObject"),
)
OF_BUCKET = (
    *("s3:ListBucketMultipartUploads", "s3:ListBucketVersions", "s3:DeleteBucket"),
    *("s3:PutBucketPolicy", "s3:PutLifecycleConfiguration", "s3:CreateBucket"),
)


def may(role: Role, place: Place, action: str, key: str) -> bool:
    return allows(role.permissions, action, f"{place.bucket_arn}/{place.prefix}{key}")


def may_list(role: Role, place: Place, prefix: str) -> bool:
    context = {"s3:prefix": place.prefix + prefix}
    return allows(role.permissions, "s3:ListBucket", place.bucket_arn, context)


@given(names, names, names, roots)
@example("shop", "pr:1", "main", "cache")
def test_the_brokers_role_covers_every_session_that_it_is_narrowed_to(
    project: str, scope: str, fallback: str, root: str
) -> None:
    place = Place("bucket", root)
    role = broker_role(place, BROKER)
    session = session_policy(Grant(place, project, scope, (fallback,)))

    for each in (scope, fallback):
        for key in keys_of(project, each):
            arn = f"{place.bucket_arn}/{place.prefix}{key}"
            for action in ACTIONS:
                assert not allows(session, action, arn) or may(role, place, action, key)
        assert may_list(role, place, scope_prefix(project, each))


@given(names, names, roots)
def test_the_brokers_role_neither_deletes_nor_writes_what_prune_does(
    project: str, scope: str, root: str
) -> None:
    place = Place("bucket", root)
    role = broker_role(place, BROKER)

    for key in keys_of(project, scope):
        assert not any(may(role, place, action, key) for action in (*OTHERS, "s3:DeleteObject"))
    for kind in ("start", "mark", "removed"):
        assert not any(
            may(role, place, action, f"{segment(project)}/gc/{ID}.{kind}") for action in ACTIONS
        )
    assert not any(allows(role.permissions, action, place.bucket_arn) for action in OF_BUCKET)


@given(names, names, roots)
def test_the_role_that_prunes_reaches_the_store_and_nothing_beside_it(
    project: str, scope: str, root: str
) -> None:
    place = Place("bucket", root)
    role = prune_role(place, None)

    for key in (*keys_of(project, scope), f"{segment(project)}/gc/{ID}.mark"):
        assert all(may(role, place, action, key) for action in (*ACTIONS, "s3:DeleteObject"))
    for prefix in ("", scopes_prefix(project)):
        assert may_list(role, place, prefix)
    assert not any(allows(role.permissions, action, place.bucket_arn) for action in OF_BUCKET)
    if place.prefix:
        beside = f"{place.bucket_arn}/{place.prefix[:-1]}x"
        assert not any(allows(role.permissions, action, beside) for action in ACTIONS)


def test_a_key_may_be_used_by_both() -> None:
    place = Place("bucket", kms_key=KEY)

    for role in (broker_role(place, BROKER), prune_role(place, None)):
        for action in ("kms:GenerateDataKey", "kms:Decrypt"):
            assert allows(role.permissions, action, KEY)
        assert not allows(role.permissions, "kms:Decrypt", KEY[:-1] + "c")


def test_only_who_was_named_takes_a_role() -> None:
    pruner = "arn:aws:iam::123456789012:user/cron"
    place = Place("bucket")
    broker, prune = broker_role(place, BROKER), prune_role(place, pruner)
    assert broker.trust is not None
    assert prune.trust is not None

    assert may_assume(broker.trust, BROKER, "sts:AssumeRole")
    assert may_assume(prune.trust, pruner, "sts:AssumeRole")
    for other in (pruner, f"{BROKER}2", "arn:aws:iam::123456789012:root"):
        assert not may_assume(broker.trust, other, "sts:AssumeRole")
    assert not may_assume(broker.trust, BROKER, "sts:AssumeRoleWithWebIdentity")
    assert prune_role(place, None).trust is None


@pytest.mark.parametrize(
    "arn",
    [
        *("*", "broker", "arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:role/*"),
        *("arn:aws:iam::*:role/broker", "arn:aws:iam::123456789012:role/", "123456789012"),
        "arn:aws:sts::123456789012:assumed-role/broker/x",
    ],
)
def test_whoever_is_not_one_user_or_role_is_refused(arn: str) -> None:
    with pytest.raises(UsageError, match="one user or role"):
        check_principal(arn)


@given(names, names, st.sampled_from(["broker", "default", "branches", "pulls", "tags", "prune"]))
@example("a_b", "a=5Fb", "broker")
def test_roles_have_names_that_iam_and_ceph_take_one_for_each_owner(
    one: str, other: str, kind: str
) -> None:
    assume(one != other)

    assert re.fullmatch(r"[A-Za-z0-9=,.@-]{1,64}", role_name(one, kind))
    assert role_name(one, kind) != role_name(other, kind)
    assert role_name(one, "broker") != role_name(one, "default")


def test_a_role_name_can_be_read() -> None:
    assert role_name("shop", "branches") == "longshore-shop-branches"


def test_documents_that_iam_would_not_take_are_refused() -> None:
    fits = prune_role(Place("bucket", "r" * 4000), None)

    with pytest.raises(UsageError, match="IAM takes 10240; give the store a shorter prefix"):
        check_sizes(prune_role(Place("bucket", "r" * 10_000), None))
    assert check_sizes(fits) == fits


# Ceph


@given(names, roots)
def test_a_role_on_ceph_has_the_rights_of_its_class(project: str, root: str) -> None:
    place = Place("bucket", root)
    roles = ceph_roles(place, project, CEPH_BROKER, default_branch="main", fallback=("develop",))
    issuer = parse_issuer("arn:aws:iam::123456789012:oidc-provider/x.y", "aud", None)
    subjects = subjects_of("github", "acme/shop", "main")

    jobs = oidc_roles(
        place, project, issuer, subjects, default_branch="main", fallback=("develop",)
    )

    assert [role.kind for role in roles] == ["default", "branches", "tags", "pulls"]
    for role, of_jobs in zip(roles, jobs, strict=True):
        assert (role.name, role.permissions) == (of_jobs.name, of_jobs.permissions)


def test_no_session_takes_a_role_on_ceph_whosever_it_is() -> None:
    session = {"aws:TokenIssueTime": "2026-11-26T12:00:00Z"}

    for role in ceph_roles(Place("bucket"), "shop", CEPH_BROKER, default_branch="main"):
        assert role.trust is not None
        assert may_assume(role.trust, CEPH_BROKER, "sts:AssumeRole")
        assert not may_assume(role.trust, "arn:aws:iam:::user/other", "sts:AssumeRole")
        for who in (CEPH_BROKER, f"arn:aws:iam:::role/{role.name}"):
            assert not may_assume(role.trust, who, "sts:AssumeRole", session)
        assert role.trust["Statement"][1]["Effect"] == "Deny"


@pytest.mark.parametrize("arn", ["arn:aws:iam:::role/broker", "*", "broker"])
def test_the_broker_on_ceph_is_one_user(arn: str) -> None:
    with pytest.raises(UsageError):
        ceph_roles(Place("bucket"), "shop", arn, default_branch="main")


def test_commands_for_ceph_hold_the_documents() -> None:
    place = Place("bucket", "it's a cache")
    roles = ceph_roles(place, "shop", CEPH_BROKER, default_branch="main")

    create, put = admin_commands(roles[:1])

    words = shlex.split(create)
    half = words.index("||")
    assert words[:3] == ["radosgw-admin", "role", "create"]
    assert words[half + 1 : half + 4] == ["radosgw-admin", "role-trust-policy", "modify"]
    assert words[3:half] == words[half + 4 :]
    assert words[3] == "--role-name=longshore-shop-default"
    assert json.loads(words[4].partition("=")[2]) == roles[0].trust
    assert shlex.split(put)[:4] == [
        *("radosgw-admin", "role-policy", "put", "--role-name=longshore-shop-default")
    ]
    assert json.loads(shlex.split(put)[-1].partition("=")[2]) == roles[0].permissions
