"""Credentials reach one scope: hundreds of attempts to reach further, on a real server.

The tables are in `tests/support/isolation_checks.py` and `isolation_tokens.py`, and run against any
server with STS.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.support.isolation import FOREIGN, Stage, attack, hand_out, not_refused, stage
from tests.support.isolation_checks import forbidden, permitted
from tests.support.isolation_tokens import escapes, wrong_tokens
from tests.support.s3_fixtures import isolate_from_host
from tests.support.seaweedfs import SIGNING_KEY, SeaweedFS

from longshore.core.session_credentials import SessionCredentials

pytestmark = pytest.mark.s3

KNOWN = {
    # At AWS, putting with tags or with an access list needs a right of its own. What is reached
    # that way the session may write anyway.
    "put with tags: the own scope": "allowed",
    "put that everybody may read: the own scope": "allowed",
    # Who may write may list the parts of an upload; its id has to be known.
    "list parts: the own scope": "allowed",
}
KNOWN_MISSING = {
    # Forms are not accepted from sessions at all.
    "post a form: the own scope"
}


@pytest.fixture
def made(seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    isolate_from_host(monkeypatch)
    with stage(seaweedfs) as found:
        yield found


async def test_credentials_of_one_scope_reach_no_other(made: Stage) -> None:
    before = made.snapshot(with_own=False)
    checks = forbidden(list(FOREIGN), read_only=False)
    assert len(checks) > 500

    with attack(made, await hand_out(made.server, made.bucket)) as attacker:
        assert not_refused(attacker, checks) == KNOWN
        assert made.snapshot(with_own=False) == before
        possible = permitted(read_only=False)
        assert not_refused(attacker, possible) == {
            check.name: "allowed" for check in possible if check.name not in KNOWN_MISSING
        }
    assert made.snapshot(with_own=False) == before


async def test_credentials_to_read_change_nothing_at_all(made: Stage) -> None:
    before = made.snapshot(with_own=True)
    checks = forbidden(list(FOREIGN)[:4], read_only=True)
    assert len(checks) > 250

    session = await hand_out(made.server, made.bucket, read_only=True)
    with attack(made, session) as attacker:
        assert not_refused(attacker, checks) == {}
        possible = permitted(read_only=True)
        assert not_refused(attacker, possible) == {check.name: "allowed" for check in possible}
    assert made.snapshot(with_own=True) == before


async def test_a_session_becomes_no_other(made: Stage) -> None:
    session = await hand_out(made.server, made.bucket)
    other = await hand_out(made.server, made.bucket, project="acme", scope="main", fallback=())

    with attack(made, session) as attacker:
        assert not_refused(attacker, escapes()) == {}
        assert not_refused(attacker, wrong_tokens(other)) == {}


async def test_a_session_that_has_expired_is_refused(made: Stage) -> None:
    session = await hand_out(made.server, made.bucket)
    # No session is shorter than 15 minutes. But SeaweedFS keeps all about it in the token, whose
    # key the tests know; the first of these shows that a token made here is one.
    again = _resigned(session)
    expired = _resigned(session, exp=1_700_003_600, nbf=1_700_000_000, iat=1_700_000_000)

    reads = [check for check in permitted(read_only=True) if check.name.startswith("get: ")]
    assert len(reads) == 2
    for changed, found in ((again, "allowed"), (expired, None)):
        with attack(made, changed) as attacker:
            assert not_refused(attacker, reads) == {r.name: found for r in reads if found}


def _resigned(session: SessionCredentials, **claims: Any) -> SessionCredentials:
    head, body, _ = session.session_token.split(".")
    changed = json.loads(base64.urlsafe_b64decode(body + "==")) | claims
    signed = f"{head}.{_encoded(json.dumps(changed).encode())}"
    signature = hmac.digest(SIGNING_KEY, signed.encode(), hashlib.sha256)
    return replace(session, session_token=f"{signed}.{_encoded(signature)}")


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
