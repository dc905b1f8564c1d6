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
from tests.support.ceph import BROKER_ARN, OPEN_TRUST, Ceph
from tests.support.seaweedfs import Credentials

from longshore.core.ceph_roles import admin_commands, ceph_roles, ceph_trust
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
        "shared", OPEN_TRUST, document(allow("s3:*", ["arn:aws:s3:::*", "arn:aws:s3:::*/*"]))
    )


@pytest.fixture(scope="module")
def project_role(site: Site) -> str:
    """A role for one project: not yet enough."""
    objects = site.place.objects(scopes_prefix("a"))
    return site.ceph.make_role(
        "project-a",
        ceph_trust(BROKER_ARN),
        document(
            list_statement(site.place, [f"{scopes_prefix('a')}*"]),
            allow(["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], objects),
        ),
    )


@pytest.fixture(scope="module")
def class_roles(site: Site) -> Mapping[str, str]:
    """The roles of project a, as `longshore setup --provider ceph` says how to make them."""
    roles = ceph_roles(site.place, "a", BROKER_ARN, default_branch="main")
    for _ in range(2):  # the second time, they are brought up to date
        site.ceph.carry_out(admin_commands(roles))
    return {role.kind: f"arn:aws:iam:::role/{role.name}" for role in roles}


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


def test_with_a_role_for_a_project_no_token_reaches_another_project(
    site: Site, project_role: str
) -> None:
    counts = reached_by_changed_tokens(site, site.pull_request(project_role))

    assert counts["read b"] == 0
    # And yet a pull request reaches the main branch: the role is the only boundary there is.
    assert counts["write main"] > 0


def test_with_the_roles_that_setup_writes_no_token_writes_what_the_main_branch_reads(
    site: Site, class_roles: Mapping[str, str]
) -> None:
    session = site.pull_request(class_roles["pulls"])

    counts = reached_by_changed_tokens(site, session)

    assert site.reach(session) == {"read own"}
    assert (counts["read b"], counts["write main"]) == (0, 0)
    # What is left: pull requests share a role, and are kept apart by the token's policy only.
    assert counts["write pr:2"] > 0


def test_with_the_roles_that_setup_writes_no_session_takes_a_role(
    site: Site, class_roles: Mapping[str, str], project_role: str, shared_role: str
) -> None:
    session = site.pull_request(class_roles["pulls"])

    for role in (*class_roles.values(), project_role):
        assert site.assume(role, session) is None
        # Nor does one that somebody else's role let somebody have.
        assert site.assume(role, site.pull_request(shared_role)) is None
    for changed in changed_tokens(session):
        assert site.assume(class_roles["default"], changed) is None


@pytest.mark.parametrize(
    ("kind", "scope", "can"),
    [
        ("default", "main", {"write main"}),
        ("branches", "feature/x", set()),
        ("tags", "tag:v1", set()),
        ("pulls", "pr:2", {"write pr:2"}),
    ],
)
def test_each_class_of_builds_writes_its_own_scopes_through_its_role(
    site: Site, class_roles: Mapping[str, str], kind: str, scope: str, can: set[str]
) -> None:
    grant = Grant(site.place, "a", scope, ("main",))
    session = site.assume(class_roles[kind], site.ceph.broker, session_policy_text(grant))
    assert session is not None

    with contextlib.closing(site.client("s3", session)) as s3:
        assert _done(s3.put_object, site.bucket, site.key("a", scope))
        assert _done(s3.get_object, site.bucket, site.key("a", "main"))
        below = f"{ROOT}/{scope_prefix('a', scope)}"
        assert s3.list_objects_v2(Bucket=site.bucket, Prefix=below)["KeyCount"] == 1
    assert site.reach(session) == can


@pytest.mark.parametrize("kind", ["branches", "tags", "pulls"])
def test_without_any_policy_no_other_class_writes_what_the_main_branch_reads(
    site: Site, class_roles: Mapping[str, str], kind: str
) -> None:
    session = site.assume(class_roles[kind], site.ceph.broker)

    assert session is not None
    assert not {"read b", "write main"} & site.reach(session)


def test_a_user_with_the_rights_of_a_role_needs_no_token(site: Site) -> None:
    keys = Credentials("pullskey", "pullssecretkey1234567890")
    site.ceph.admin_command(
        *("user", "create", "--uid=pulls", "--display-name=pulls", "--max-buckets=-1"),
        *(f"--access-key={keys.access_key}", f"--secret-key={keys.secret_key}"),
    )
    roles = ceph_roles(site.place, "a", BROKER_ARN, default_branch="main")
    [rights] = [role.permissions for role in roles if role.kind == "pulls"]
    with contextlib.closing(site.client("iam", site.ceph.admin)) as iam:
        iam.put_user_policy(
            UserName="pulls", PolicyName="longshore", PolicyDocument=json.dumps(rights)
        )

    assert site.reach(Session(keys.access_key, keys.secret_key, "")) == {"read own", "write pr:2"}
    for role in roles:
        assert site.assume(f"arn:aws:iam:::role/{role.name}", keys) is None
