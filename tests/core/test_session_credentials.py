"""Credentials reach a job whole, and nothing else by them."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longshore.core.session_credentials import (
    SessionCredentials,
    github_masks,
    github_variables,
    process_document,
    shell_exports,
)
from longshore.errors import StoreError

EXPIRES = datetime(2026, 11, 26, 7, 30, tzinfo=UTC)
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)


def credentials(
    key: str = "ASIAEXAMPLE", secret: str = "s/e+c=r", token: str = "t/o+k=", **more: datetime
) -> SessionCredentials:
    return SessionCredentials(key, secret, token, more.get("expires_at", EXPIRES))


def test_secrets_are_in_no_repr() -> None:
    made = credentials(secret="the-secret", token="the-token")

    for text in (repr(made), str(made), f"{made}"):
        assert "the-secret" not in text
        assert "the-token" not in text


@settings(max_examples=10)
@given(values, values, values)
def test_a_shell_reads_what_was_written(key: str, secret: str, token: str) -> None:
    text = shell_exports(credentials(key, secret, token))

    script = (
        f"{text}\nprintf '%s\\0' "
        '"$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" "$AWS_SESSION_TOKEN"'
        ' "$AWS_CREDENTIAL_EXPIRATION"'
    )
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout.split("\0")[:-1] == [key, secret, token, "2026-11-26T07:30:00Z"]
    assert done.stderr == ""


@given(values, values, values)
def test_the_aws_libraries_are_given_the_document_that_they_know(
    key: str, secret: str, token: str
) -> None:
    assert json.loads(process_document(credentials(key, secret, token))) == {
        "Version": 1,
        "AccessKeyId": key,
        "SecretAccessKey": secret,
        "SessionToken": token,
        "Expiration": "2026-11-26T07:30:00Z",
    }


@given(values, values, values)
def test_github_is_given_one_line_for_each_value(key: str, secret: str, token: str) -> None:
    made = credentials(key, secret, token)

    masked = [line.removeprefix("::add-mask::") for line in github_masks(made).split("\n")]
    # Undone as the runner does it: actions/runner, src/Runner.Common/ActionCommand.cs
    assert [mask.replace("%25", "%") for mask in masked] == [key, secret, token]
    assert github_variables(made).split("\n") == [
        f"AWS_ACCESS_KEY_ID={key}",
        f"AWS_SECRET_ACCESS_KEY={secret}",
        f"AWS_SESSION_TOKEN={token}",
        "AWS_CREDENTIAL_EXPIRATION=2026-11-26T07:30:00Z",
    ]


@pytest.mark.parametrize("value", ["", "a b", "a\nPATH=/evil", "a\r", "é", "\x1b[0m", "a\0"])
@pytest.mark.parametrize("field", ["key", "secret", "token"])
def test_what_could_be_more_than_a_value_is_refused(field: str, value: str) -> None:
    with pytest.raises(StoreError, match="no credentials") as caught:
        credentials(**{field: value})  # type: ignore[arg-type]
    assert "evil" not in str(caught.value)


def test_an_end_without_a_time_zone_is_refused() -> None:
    with pytest.raises(StoreError):
        credentials(expires_at=datetime(2026, 11, 26))  # noqa: DTZ001 - that is the point


def test_the_end_is_told_in_utc() -> None:
    there = timezone(timedelta(hours=2))

    assert credentials(expires_at=EXPIRES.astimezone(there)).expiration == "2026-11-26T07:30:00Z"
