"""Two holes in the session tokens of Ceph's gateway, and the roles that close them.

A session is given a policy that narrows its role. The gateway keeps that policy in the token, which
is encrypted (AES-CBC) and not authenticated, and where a token's policy cannot be read it goes by
the role alone. And a session may assume a role again, without a policy. So on Ceph the boundary
is what the *role* may do. These tests show the holes as well, so that a version of Ceph that closes
them is noticed.
"""

from __future__ import annotations

import contextlib
import json
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.support.ceph import Ceph, trust
from tests.support.seaweedfs import Credentials

from longshore.core.keys import scope_prefix, scopes_prefix
from longshore.core.policy import Grant, Place, allow, document, list_statement, session_policy_text

pytestmark = pytest.mark.s3

ROOT = "cache"
CHANGED_TOKENS = 96
_BASE64 = string.ascii_letters + string.digits + "+/"


@dataclass(frozen=True, slots=True)
class Session:
    """Temporary credentials."""

    key: str
    secret: str
    token: str


@dataclass(frozen=True, slots=True)
class Site:
    """A bucket with an object in each scope that somebody may want."""

    ceph: Ceph
    bucket: str

    @property
    def place(self) -> Place:
        return Place(self.bucket, ROOT)

    def key(self, project: str, scope: str) -> str:
        return f"{ROOT}/{scope_prefix(project, scope)}packs/x"

    def client(self, service: str, session: Session | Credentials) -> Any:
        if isinstance(session, Credentials):
            session = Session(session.access_key, session.secret_key, "")
        return boto3.client(
            service,
            endpoint_url=self.ceph.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=session.key,
            aws_secret_access_key=session.secret,
            aws_session_token=session.token or None,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
            ),
        )

    def assume(
        self, role: str, who: Session | Credentials, policy: str | None = None
    ) -> Session | None:
        """Assume a role; None if the server refuses."""
        with contextlib.closing(self.client("sts", who)) as sts:
            try:
                given = sts.assume_role(
                    RoleArn=role,
                    RoleSessionName="test",
                    DurationSeconds=900,
                    **({} if policy is None else {"Policy": policy}),
                )["Credentials"]
            except ClientError as error:
                _check_refusal(error)
                return None
        return Session(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])

    def pull_request(self, role: str, project: str = "a") -> Session:
        """Do what the broker does for pull request 1 of a project."""
        policy = session_policy_text(Grant(self.place, project, "pr:1", ("main",)))
        session = self.assume(role, self.ceph.broker, policy)
        assert session is not None
        return session

    def reach(self, session: Session) -> frozenset[str]:
        """Tell what a session of project a's pull request 1 can do of what matters."""
        with contextlib.closing(self.client("s3", session)) as s3:
            found = {
                "read own": _done(s3.get_object, self.bucket, self.key("a", "pr:1")),
                "read b": _done(s3.get_object, self.bucket, self.key("b", "main")),
                "write pr:2": _done(s3.put_object, self.bucket, self.key("a", "pr:2")),
                "write main": _done(s3.put_object, self.bucket, self.key("a", "main")),
            }
        return frozenset(name for name, done in found.items() if done)


def _done(operation: Any, bucket: str, key: str) -> bool:
    try:
        operation(Bucket=bucket, Key=key)
    except ClientError as error:
        _check_refusal(error)
        return False
    return True


def _check_refusal(error: ClientError) -> None:
    """Accept a refusal, and no other failure; a token that cannot be read is a bad argument."""
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403), error


@pytest.fixture(scope="module")
def site(ceph: Ceph) -> Iterator[Site]:
    made = Site(ceph, ceph.make_bucket())
    with contextlib.closing(made.client("s3", ceph.admin)) as admin:
        for project in ("a", "b"):
            for scope in ("main", "pr:1", "pr:2"):
                admin.put_object(Bucket=made.bucket, Key=made.key(project, scope), Body=b"x")
        yield made


@pytest.fixture(scope="module")
def shared_role(site: Site) -> str:
    """One role for all projects, kept apart by the sessions' policies only."""
    return site.ceph.make_role(
        "shared", trust(), document(allow("s3:*", ["arn:aws:s3:::*", "arn:aws:s3:::*/*"]))
    )


@pytest.fixture(scope="module")
def project_roles(site: Site) -> Mapping[str, str]:
    """One role for each project."""
    arns = [f"arn:aws:iam:::role/project-{name}" for name in ("a", "b")]
    return {
        name: site.ceph.make_role(
            f"project-{name}",
            trust(*arns),
            document(
                list_statement(site.place, [f"{scopes_prefix(name)}*"]),
                allow(
                    ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"],
                    site.place.objects(scopes_prefix(name)),
                ),
            ),
        )
        for name in ("a", "b")
    }


@pytest.fixture(scope="module")
def class_roles(site: Site) -> Mapping[str, str]:
    """One role for each trust class of project a: pull requests, and the default branch."""
    arns = [f"arn:aws:iam:::role/a-{name}" for name in ("pull-requests", "main")]
    made = {}
    for name, scope in (("pull-requests", "pr:"), ("main", "main")):
        below = scope_prefix("a", scope)
        below = below.removesuffix("/") if scope == "pr:" else below
        main = scope_prefix("a", "main")
        made[name] = site.ceph.make_role(
            f"a-{name}",
            trust(*arns),
            document(
                list_statement(site.place, [f"{below}*", f"{main}*"]),
                allow("s3:GetObject", [site.place.objects(below), site.place.objects(main)]),
                allow(["s3:PutObject", "s3:AbortMultipartUpload"], site.place.objects(below)),
            ),
        )
    return made


def changed_tokens(session: Session) -> Iterator[Session]:
    """Change one character of the token, at places all along it."""
    token = session.token
    length = len(token.rstrip("="))
    for number in range(CHANGED_TOKENS):
        place = number * length // CHANGED_TOKENS
        other = _BASE64[(_BASE64.index(token[place]) + 1 + number % 63) % 64]
        yield Session(session.key, session.secret, token[:place] + other + token[place + 1 :])


def reached_by_changed_tokens(site: Site, session: Session) -> dict[str, int]:
    """Count what the changed tokens of a session can do."""
    reached = [site.reach(changed) for changed in changed_tokens(session)]
    counts = {
        name: sum(name in each for each in reached)
        for name in ("read own", "read b", "write pr:2", "write main")
    }
    print(f"of {len(reached)} changed tokens: {json.dumps(counts)}")  # noqa: T201
    return counts


def test_a_session_can_do_what_its_policy_says_and_no_more(site: Site, shared_role: str) -> None:
    assert site.reach(site.pull_request(shared_role)) == {"read own"}


def test_of_a_shared_role_a_changed_token_can_reach_everything(
    site: Site, shared_role: str
) -> None:
    counts = reached_by_changed_tokens(site, site.pull_request(shared_role))

    assert counts["read b"] > 0
    assert counts["write main"] > 0


def test_of_a_shared_role_a_session_can_assume_the_role_again_without_a_policy(
    site: Site, shared_role: str
) -> None:
    again = site.assume(shared_role, site.pull_request(shared_role))

    assert again is not None
    assert {"read b", "write main"} <= site.reach(again)


def test_with_a_role_for_each_project_no_token_reaches_another_project(
    site: Site, project_roles: Mapping[str, str]
) -> None:
    counts = reached_by_changed_tokens(site, site.pull_request(project_roles["a"]))

    assert counts["read b"] == 0
    # The tampering itself still works: within the project the role is the only boundary.
    assert counts["write main"] > 0


@pytest.mark.parametrize("other", ["a", "b"])
def test_with_a_trust_policy_that_denies_the_roles_no_session_assumes_one(
    site: Site, project_roles: Mapping[str, str], other: str
) -> None:
    session = site.pull_request(project_roles["a"])

    assert site.assume(project_roles[other], session) is None
    for changed in changed_tokens(session):
        assert site.assume(project_roles[other], changed) is None


def test_with_a_role_for_pull_requests_no_token_writes_what_the_main_branch_reads(
    site: Site, class_roles: Mapping[str, str]
) -> None:
    session = site.pull_request(class_roles["pull-requests"])

    counts = reached_by_changed_tokens(site, session)

    assert site.reach(session) == {"read own"}
    assert (counts["read b"], counts["write main"]) == (0, 0)
    for role in class_roles.values():
        assert site.assume(role, session) is None
    # What is left: pull requests share the role, and are kept apart by the token's policy only.
    assert counts["write pr:2"] > 0


def test_the_broker_is_not_denied(site: Site, class_roles: Mapping[str, str]) -> None:
    session = site.assume(
        class_roles["main"],
        site.ceph.broker,
        session_policy_text(Grant(site.place, "a", "main")),
    )

    assert session is not None
    assert site.reach(session) == {"write main"}
