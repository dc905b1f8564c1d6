"""Ways out of a session itself: other roles, other tokens, tokens that were tampered with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from tests.support.isolation import Attack, Check, client_of, policy_for_all, sts_client_of
from tests.support.seaweedfs import Credentials

from longshore.core.session_credentials import SessionCredentials

TAMPERED = 24
WRONG = frozenset({400, 401, 403})
# A server without an operation does not do it either.
UNKNOWN = WRONG | {404, 405, 501}

_VICTIMS = ("another project", "another pull request")


def _sts(call: Callable[[Any, Attack], object]) -> Callable[[Attack], object]:
    def attempt(a: Attack) -> object:
        with closing(sts_client_of(a.stage.server, a.credentials, a.session.session_token)) as sts:
            return call(sts, a)

    return attempt


def _assume(a: Attack, sts: Any, **more: Any) -> object:
    return sts.assume_role(RoleArn=a.stage.server.role_arn, RoleSessionName="again", **more)


def escapes() -> tuple[Check, ...]:
    """List ways in which a session may try to become another one."""
    return (
        Check("assume the role again", _sts(lambda sts, a: _assume(a, sts))),
        Check(
            "assume the role again with a wide policy",
            _sts(lambda sts, a: _assume(a, sts, Policy=policy_for_all(a.bucket))),
        ),
        Check("get a session token", _sts(lambda sts, _: sts.get_session_token()), UNKNOWN),
        Check(
            "get a token for a user",
            _sts(lambda sts, a: sts.get_federation_token(Name="me", Policy=policy_for_all("*"))),
            UNKNOWN,
        ),
        Check(
            "assume the role with the token as an identity",
            _sts(
                lambda sts, a: sts.assume_role_with_web_identity(
                    RoleArn=a.stage.server.role_arn,
                    RoleSessionName="again",
                    WebIdentityToken=a.session.session_token,
                )
            ),
            UNKNOWN,
        ),
    )


def wrong_tokens(other: SessionCredentials) -> tuple[Check, ...]:
    """List uses of the session's keys with what is not their token.

    Args:
        other: of another scope, which may read what the attacker wants.
    """

    def variants(a: Attack) -> dict[str, tuple[Credentials, str | None]]:
        own, token = a.credentials, a.session.session_token
        others = Credentials(other.access_key_id, other.secret_access_key)
        return {
            "no token": (own, None),
            "a token that is none": (own, "x" * 400),
            "half a token": (own, token[: len(token) // 2]),
            "a token with more behind it": (own, token + "x"),
            "somebody else's token": (own, other.session_token),
            "one's own token with somebody else's keys": (others, token),
            "somebody else's key with one's own secret": (
                Credentials(other.access_key_id, a.session.secret_access_key),
                other.session_token,
            ),
            "a wrong secret": (Credentials(own.access_key, "x" * 40), token),
            **{
                f"a token changed at {number} of {TAMPERED}": (own, _changed(token, number))
                for number in range(TAMPERED)
            },
        }

    def checks() -> Iterator[Check]:
        names = [
            *("no token", "a token that is none", "half a token", "a token with more behind it"),
            *("somebody else's token", "one's own token with somebody else's keys"),
            *("somebody else's key with one's own secret", "a wrong secret"),
            *(f"a token changed at {number} of {TAMPERED}" for number in range(TAMPERED)),
        ]
        for name in names:
            for where in ("the own scope", *_VICTIMS):
                yield Check(
                    f"{name}: get of {where}",
                    lambda a, name=name, where=where: _get(a, *variants(a)[name], where),  # type: ignore[misc]
                    WRONG,
                )

    return tuple(checks())


def _get(a: Attack, credentials: Credentials, token: str | None, where: str) -> None:
    target = a.stage.own if where == "the own scope" else a.stage.foreign[where]
    with closing(client_of(a.stage.server, credentials, token)) as client:
        client.get_object(Bucket=a.bucket, Key=target.key)["Body"].close()


def _changed(token: str, number: int) -> str:
    """Change one character; not one of the last, of which base64 may ignore some bits."""
    position = (len(token) - 4) * number // TAMPERED
    other = "A" if token[position] != "A" else "B"
    return token[:position] + other + token[position + 1 :]
