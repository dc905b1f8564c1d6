"""The same policies on Ceph's gateway: builds that work, and attempts to get around them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.cache import export, import_, service
from tests.support.ceph import BROKER_ARN, OPEN_TRUST, Ceph
from tests.support.fake_engine import FakeEngine
from tests.support.isolation import (
    FOREIGN,
    OWN_PREFIX,
    PROJECT,
    ROOT,
    Check,
    Stage,
    attack,
    hand_out,
    not_refused,
    stage,
)
from tests.support.isolation_checks import forbidden, permitted
from tests.support.isolation_tokens import escapes, wrong_tokens
from tests.support.s3_fixtures import isolate_from_host, open_s3_store
from tests.support.seaweedfs import Credentials

from longshore.core.ceph_roles import admin_commands, ceph_roles
from longshore.core.policy import Place, allow, document
from longshore.core.session_credentials import SessionCredentials
from longshore.store.s3 import S3Store

pytestmark = pytest.mark.s3

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
MIB = 1 << 20

KNOWN = {
    # At AWS, putting with tags or with an access list needs a right of its own. What is reached
    # that way the session may write anyway; that it becomes public, a block on public access stops.
    "put with tags: the own scope": "allowed",
    "put that everybody may read: the own scope": "allowed",
}
# That an object is to be copied onto itself without a change is found before who asks for it.
KNOWN_READING = {"copy in: the own scope": "answered 400 InvalidRequest"}
WEB = service("web", "web:1")


@dataclass(frozen=True, slots=True)
class CephWithRole:
    """A server, one of its buckets, and the role that sessions are to have."""

    ceph: Ceph
    bucket: str
    role_arn: str

    @property
    def endpoint_url(self) -> str:
        return self.ceph.endpoint_url

    @property
    def admin(self) -> Credentials:
        return self.ceph.admin

    @property
    def broker(self) -> Credentials:
        return self.ceph.broker

    def make_bucket(self) -> str:
        return self.bucket


@pytest.fixture(autouse=True)
def nothing_from_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_from_host(monkeypatch)


@pytest.fixture(scope="module")
def everything(ceph: Ceph) -> str:
    """A role that may do everything in S3, so that only policies of sessions stand in the way."""
    everywhere = ["arn:aws:s3:::*", "arn:aws:s3:::*/*"]
    return ceph.make_role("everything", OPEN_TRUST, document(allow("s3:*", everywhere)))


@pytest.fixture
def made(ceph: Ceph, everything: str) -> Iterator[Stage]:
    with stage(CephWithRole(ceph, ceph.make_bucket(), everything)) as found:
        yield found


def open_store(made: Stage, session: SessionCredentials) -> S3Store:
    return open_s3_store(
        made.server.endpoint_url,
        made.bucket,
        prefix=ROOT,
        credentials=Credentials(session.access_key_id, session.secret_access_key),
        token=session.session_token,
    )


async def test_credentials_of_one_scope_reach_no_other(made: Stage) -> None:
    before = made.snapshot(with_own=False)
    checks = forbidden(list(FOREIGN), read_only=False)
    assert len(checks) > 500

    with attack(made, await hand_out(made.server, made.bucket)) as attacker:
        assert not_refused(attacker, checks) == KNOWN
        assert made.snapshot(with_own=False) == before
        possible = permitted(read_only=False)
        assert not_refused(attacker, possible) == allowed(possible)
    assert made.snapshot(with_own=False) == before


async def test_credentials_to_read_change_nothing_at_all(made: Stage) -> None:
    before = made.snapshot(with_own=True)
    checks = forbidden(list(FOREIGN)[:4], read_only=True)
    assert len(checks) > 250

    session = await hand_out(made.server, made.bucket, read_only=True)
    with attack(made, session) as attacker:
        assert not_refused(attacker, checks) == KNOWN_READING
        possible = permitted(read_only=True)
        assert not_refused(attacker, possible) == allowed(possible)
    assert made.snapshot(with_own=True) == before


def test_the_document_says_what_was_measured(ceph: Ceph) -> None:
    writing = len(forbidden(list(FOREIGN), read_only=False))
    reading = len(forbidden(list(FOREIGN)[:4], read_only=True))

    row = f"| Ceph RGW {ceph.version} | {writing} attempts, {len(KNOWN)} not refused"
    assert f"{row} | {reading} attempts, none |" in DOCUMENT.read_text()


def allowed(checks: tuple[Check, ...]) -> dict[str, str]:
    return {check.name: "allowed" for check in checks}


async def test_builds_export_and_import_with_the_credentials_of_their_scope(made: Stage) -> None:
    main = await hand_out(made.server, made.bucket, scope="main", fallback=())
    own = await hand_out(made.server, made.bucket)
    reader = await hand_out(made.server, made.bucket, read_only=True)
    first, second = build(1), build(2)

    async with open_store(made, main) as store:
        await export(first, store, [WEB], scopes=["main"])
    async with open_store(made, own) as store:
        imported = await import_(fresh := FakeEngine(), store, [WEB], scopes=["pr-1", "main"])
        assert [each.outcome for each in imported.services] == ["hit"]
        assert fresh.layers == first.layers
        await export(second, store, [WEB], scopes=["pr-1", "main"])
    async with open_store(made, reader) as store:
        await import_(fresh := FakeEngine(), store, [WEB], scopes=["pr-1", "main"])
        assert fresh.layers == second.layers
        assert fresh.images.keys() == second.images.keys()
    async with open_store(made, main) as store:
        await import_(fresh := FakeEngine(), store, [WEB], scopes=["main"])
        assert fresh.layers == first.layers


def build(version: int) -> FakeEngine:
    """Build an image whose last layer needs several packs' parts."""
    engine = FakeEngine()
    noise = random.Random(version).randbytes(20 * MIB)
    engine.build([("base", {"bin/sh": b"#!" * 3000}), ("app", {"app": noise})], "web:1")
    return engine


async def test_a_block_on_public_access_keeps_a_writer_from_making_its_objects_public(
    made: Stage,
) -> None:
    key = f"{OWN_PREFIX}packs/public"
    url = f"{made.server.endpoint_url}/{made.bucket}/{key}"
    with attack(made, await hand_out(made.server, made.bucket)) as attacker:
        attacker.client.put_object(Bucket=made.bucket, Key=key, Body=b"own", ACL="public-read")
        assert attacker.fetch("GET", url) == b"own"

        blocks = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy")
        made.admin.put_public_access_block(
            Bucket=made.bucket,
            PublicAccessBlockConfiguration=dict.fromkeys((*blocks, "RestrictPublicBuckets"), True),
        )

        public = "put that everybody may read: the own scope"
        checks = [Check("get without credentials", lambda a: a.fetch("GET", url))]
        checks += [each for each in forbidden([], read_only=False) if each.name == public]
        assert len(checks) == 2
        assert not_refused(attacker, checks) == {}
        attacker.client.put_object(Bucket=made.bucket, Key=key, Body=b"own")


async def test_with_the_roles_that_setup_writes_sessions_become_no_others(ceph: Ceph) -> None:
    place = Place(ceph.make_bucket(), ROOT)
    servers = {}
    for project, kind in ((PROJECT, "branches"), ("acme", "default")):
        roles = ceph_roles(place, project, BROKER_ARN, default_branch="main")
        ceph.carry_out(admin_commands(roles))
        [name] = [role.name for role in roles if role.kind == kind]
        servers[project] = CephWithRole(ceph, place.bucket, f"arn:aws:iam:::role/{name}")
    other = await hand_out(servers["acme"], place.bucket, project="acme", scope="main", fallback=())

    session = await hand_out(servers[PROJECT], place.bucket)
    with stage(servers[PROJECT]) as made, attack(made, session) as attacker:
        assert not_refused(attacker, escapes()) == {}
        found = not_refused(attacker, wrong_tokens(other))

    # A changed token is still taken for one of its role: see test_ceph_tokens.py.
    assert [name for name in found if not re.match(r"a token (changed|with more)", name)] == []
    assert [name for name in found if "another project" in name] == []
