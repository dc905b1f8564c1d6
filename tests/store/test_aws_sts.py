"""What STS, or something in its place, answers: credentials, or an error that says what to do."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import boto3
import pytest
from tests.support.faults import Answer, ScriptedServer, http_answer
from tests.support.s3_fixtures import isolate_from_host

from longshore.core.session_credentials import SessionCredentials
from longshore.errors import AccessDenied, LongshoreError, StoreError, StoreUnavailable
from longshore.store import aws
from longshore.store.aws_sts import assume_role
from longshore.store.s3_errors import is_aws

KEY = "AKIASECRETKEYNAME777"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYTESTSECRET"
TOKEN = "FwoGZXIvYXdzEBYaDKtokentokentokentokentokentokentoken=="
ROLE = "arn:aws:iam::123456789012:role/longshore"
XMLNS = 'xmlns="https://sts.amazonaws.com/doc/2011-06-15/"'


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_from_host(monkeypatch)
    monkeypatch.setattr(aws, "ATTEMPTS", 1)


async def ask(
    endpoint_url: str | None,
    *,
    duration: timedelta = timedelta(hours=1),
    region: str | None = None,
    anonymous: bool = False,
) -> SessionCredentials:
    return await assume_role(
        role_arn=ROLE,
        session_name="pr=3A17@shop",
        policy='{"Version":"2012-10-17"}',
        duration=duration,
        endpoint_url=endpoint_url,
        region=region,
        connect_timeout=timedelta(seconds=5),
        read_timeout=timedelta(seconds=5),
        session=boto3.Session() if anonymous else boto3.Session(KEY, SECRET, TOKEN),
    )


async def failure_of(answer: Answer, **more: timedelta) -> LongshoreError:
    async with ScriptedServer([answer]) as server:
        with pytest.raises(LongshoreError) as caught:
            await ask(server.endpoint_url, **more)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert ROLE in text or "answered without" in text or "no credentials" in text
    for secret in (KEY, SECRET, TOKEN, SECRET[:20], TOKEN[:20]):
        assert secret not in text
    return caught.value


def granted(**fields: str) -> bytes:
    values = {
        "AccessKeyId": "ASIAIOSFODNN7EXAMPLE",
        "SecretAccessKey": "the/secret",
        "SessionToken": "the+token==",
        "Expiration": "2026-11-26T07:30:00Z",
    } | fields
    text = "".join(f"<{name}>{value}</{name}>" for name, value in values.items() if value)
    return (
        f"<AssumeRoleResponse {XMLNS}><AssumeRoleResult><Credentials>{text}</Credentials>"
        "</AssumeRoleResult></AssumeRoleResponse>"
    ).encode()


def sts_error(code: str, message: str = "") -> bytes:
    return (
        f"<ErrorResponse {XMLNS}><Error><Type>Sender</Type><Code>{code}</Code>"
        f"<Message>{message}</Message></Error></ErrorResponse>"
    ).encode()


def s3_error(code: str) -> bytes:
    """Write an error as SeaweedFS does for STS: botocore finds no code in it."""
    return f"<Error><Code>{code}</Code><Message>Access Denied.</Message></Error>".encode()


async def test_the_request_is_what_sts_expects() -> None:
    async with ScriptedServer([http_answer(200, granted())]) as server:
        found = await ask(server.endpoint_url, duration=timedelta(hours=2))

    (request,) = server.requests
    assert parse_qs(request.body.decode()) == {
        "Action": ["AssumeRole"],
        "Version": ["2011-06-15"],
        "RoleArn": [ROLE],
        "RoleSessionName": ["pr=3A17@shop"],
        "Policy": ['{"Version":"2012-10-17"}'],
        "DurationSeconds": ["7200"],
    }
    assert found.session_token == "the+token=="
    assert found.expires_at == datetime(2026, 11, 26, 7, 30, tzinfo=UTC)


CHAINED = (
    "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role"
    " chaining"
)
TOO_LONG = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role"
HOURS = timedelta(hours=4)

ANSWERS: dict[str, tuple[int, bytes, timedelta, type[LongshoreError], str]] = {
    "may not": (
        403,
        sts_error("AccessDenied", f"User: x is not authorized to perform: sts:AssumeRole {KEY}"),
        HOURS,
        AccessDenied,
        "not authorized.*needs sts:AssumeRole on the role, and to be named by its trust policy",
    ),
    "may not, says S3": (403, s3_error("AccessDenied"), HOURS, AccessDenied, "valid credentials"),
    "may not, without a word": (403, b"", HOURS, StoreError, "not STS; check the endpoint"),
    "expired": (
        403,
        sts_error("ExpiredToken", f"The security token {TOKEN} is expired"),
        HOURS,
        AccessDenied,
        "have expired or are wrong .*get new ones",
    ),
    "wrong key": (403, sts_error("InvalidClientTokenId"), HOURS, AccessDenied, "wrong"),
    "wrong secret": (403, sts_error("SignatureDoesNotMatch"), HOURS, AccessDenied, "wrong"),
    "chained": (
        400,
        sts_error("ValidationError", CHAINED),
        HOURS,
        StoreError,
        r"shorter --duration, or raise .* \(role chaining\) gets 1h at most",
    ),
    "too long": (
        400,
        sts_error("ValidationError", TOO_LONG),
        HOURS,
        StoreError,
        "raise the role's MaxSessionDuration",
    ),
    "too long, says S3": (400, s3_error("InvalidRequest"), HOURS, StoreError, "role chaining"),
    "too long to pack": (
        400,
        sts_error("PackedPolicyTooLarge", "Packed size of session policy consumes 120%"),
        HOURS,
        StoreError,
        "120%.*name fewer --fallback scopes",
    ),
    "no policy": (
        400,
        sts_error("MalformedPolicyDocument", "Syntax errors in policy."),
        HOURS,
        StoreError,
        "MalformedPolicyDocument.*check the role",
    ),
    "region off": (403, sts_error("RegionDisabledException"), HOURS, StoreError, "this region"),
    "throttled": (400, sts_error("Throttling"), HOURS, StoreUnavailable, "try again later"),
    "broken": (500, sts_error("InternalFailure"), HOURS, StoreUnavailable, "try again later"),
    "no STS": (405, s3_error("MethodNotAllowed"), HOURS, StoreError, "--sts-endpoint-url"),
    "a login page": (
        200,
        b"<html><body>Welcome!</body></html>",
        HOURS,
        StoreError,
        "without credentials|not STS",
    ),
    "no XML": (200, b"Welcome!", HOURS, StoreError, "not STS"),
    "no token": (200, granted(SessionToken=""), HOURS, StoreError, "without credentials"),
    "more than a token": (200, granted(SessionToken="a&#10;X=1"), HOURS, StoreError, "no cred"),
}


@pytest.mark.parametrize(
    ("status", "body", "duration", "kind", "said"), ANSWERS.values(), ids=ANSWERS
)
async def test_an_answer_becomes_an_error_that_helps(
    status: int, body: bytes, duration: timedelta, kind: type[LongshoreError], said: str
) -> None:
    error = await failure_of(http_answer(status, body), duration=duration)

    assert type(error) is kind
    assert re.search(said, str(error))


async def test_a_busy_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "ATTEMPTS", 2)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    async with ScriptedServer([http_answer(503), http_answer(200, granted())]) as server:
        await ask(server.endpoint_url)

    assert len(server.requests) == 2


async def test_a_server_that_is_not_there_is_named(unused_tcp_port: int) -> None:
    with pytest.raises(StoreUnavailable, match=r"no connection to http://127\.0\.0\.1"):
        await ask(f"http://127.0.0.1:{unused_tcp_port}")


async def test_without_an_endpoint_the_sts_of_aws_is_asked() -> None:
    for region in (None, "eu-west-1"):
        with pytest.raises(StoreUnavailable, match="no connection to AWS STS"):
            await ask(None, region=region)


@pytest.mark.parametrize(("region", "signed"), [(None, "us-east-1"), ("eu-west-7", "eu-west-7")])
async def test_the_region_is_part_of_the_signature(region: str | None, signed: str) -> None:
    async with ScriptedServer([http_answer(200, granted())]) as server:
        await ask(server.endpoint_url, region=region)

    assert f"/{signed}/sts/" in server.requests[0].headers["authorization"]


async def test_no_credentials_to_ask_with_are_an_error() -> None:
    async with ScriptedServer([http_answer(200, granted())]) as server:
        with pytest.raises(AccessDenied, match="set AWS_ACCESS_KEY_ID"):
            await ask(server.endpoint_url, anonymous=True)
        assert server.requests == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (None, True),
        ("https://s3.eu-west-1.amazonaws.com", True),
        ("https://s3.cn-north-1.amazonaws.com.cn", True),
        ("https://sts.eu-west-1.api.aws", True),
        ("https://s3.example.com", False),
        ("https://evilamazonaws.com", False),
        ("http://127.0.0.1:8333", False),
    ],
)
def test_endpoints_of_aws_are_told_from_others(url: str | None, expected: bool) -> None:
    assert is_aws(url) is expected
