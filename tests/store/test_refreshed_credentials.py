"""Credentials that expire while a store is used are asked for again, by the usual providers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import AioSession
from tests.support.faults import ScriptedServer, http_answer
from tests.support.providers import Process, Provider
from tests.support.s3_fixtures import isolate_from_host

from longshore.errors import AccessDenied
from longshore.store.s3 import S3Store
from longshore.store.s3_connection import find_credentials

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
STORED = http_answer(200, b"", {"ETag": '"etag"'})
PROVIDERS = ("container", "web identity", "process", "instance")
SECRET_WORDS = "the-secret-of-the-provider"


@pytest.fixture
async def s3(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedServer]:
    """A server that takes everything, and no credentials in sight."""
    isolate_from_host(monkeypatch)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    async with ScriptedServer([STORED]) as server:
        yield server


def point_to(kind: str, provider: Provider, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Set the variables by which the SDK finds a provider."""
    if kind == "container":
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{provider.endpoint_url}/c")
    elif kind == "web identity":
        (folder / "token").write_text("the-job's-token")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(folder / "token"))
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/builder")
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", provider.endpoint_url)
    else:
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", provider.endpoint_url)


def open_store(
    endpoint_url: str, session: Any = None, patience: timedelta = timedelta(seconds=20)
) -> S3Store:
    return S3Store(
        bucket="bucket",
        endpoint_url=endpoint_url,
        concurrency=8,
        connect_timeout=timedelta(seconds=5),
        read_timeout=patience,
        session=session,
    )


def keys_used(server: ScriptedServer) -> list[str]:
    """Name the access keys that requests were signed with, in the order of first use."""
    found = (re.search(r"Credential=(\w+)/", r.headers["authorization"]) for r in server.requests)
    return list(dict.fromkeys(match[1] for match in found if match))


@pytest.mark.parametrize("lifetime", [MINUTE, 14 * MINUTE], ids=["mandatory", "advisory"])
@pytest.mark.parametrize("kind", ["container", "web identity", "process"])
async def test_store_asks_again_before_credentials_expire_and_goes_on(
    s3: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
    lifetime: timedelta,
) -> None:
    # botocore asks again 15 minutes before the end, and has to 10 minutes before.
    lifetimes = [lifetime, lifetime, lifetime, HOUR]
    async with Provider(lifetimes) as server:
        provider: Provider | Process = server
        if kind == "process":
            provider = Process(tmp_path / "process", lifetimes)
            monkeypatch.setenv("AWS_CONFIG_FILE", str(provider.config))
        else:
            point_to(kind, server, monkeypatch, tmp_path)
        async with open_store(s3.endpoint_url) as store:
            for number in range(8):
                await store.put(f"a/{number}", b"x")

    assert provider.asked == 4
    assert keys_used(s3)[-2:] == ["KEY00003", "KEY00004"]
    assert len(s3.requests) == 8
    assert s3.requests[-1].headers["x-amz-security-token"] == "token-00004"


async def test_instance_role_is_asked_again(
    s3: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # botocore takes an instance's credentials that are about to expire for good for a while, so
    # here the time passes.
    session = AioSession()
    async with Provider([HOUR, 3 * HOUR]) as provider:
        point_to("instance", provider, monkeypatch, tmp_path)
        async with open_store(s3.endpoint_url, session) as store:
            await store.put("a", b"x")
            credentials: Any = await session.get_credentials()
            now = credentials._time_fetcher
            credentials._time_fetcher = lambda: now() + 55 * MINUTE
            for _ in range(3):
                await store.put("a", b"x")

    assert provider.asked == 2
    assert keys_used(s3) == ["KEY00001", "KEY00002"]


async def test_web_identity_token_is_read_anew_each_time(
    s3: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with Provider([MINUTE]) as provider:
        point_to("web identity", provider, monkeypatch, tmp_path)
        async with open_store(s3.endpoint_url) as store:
            await store.put("a", b"x")
            (tmp_path / "token").write_text("a-newer-token")
            await store.put("a", b"x")

    assert provider.tokens == ["the-job's-token", "a-newer-token"]


async def test_requests_side_by_side_ask_once(
    s3: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with Provider([MINUTE, HOUR]) as provider:
        point_to("container", provider, monkeypatch, tmp_path)
        async with open_store(s3.endpoint_url) as store, asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(store.put(f"a/{number}", b"x"))

    assert provider.asked == 2
    assert len(s3.requests) == 20


async def test_request_that_is_cancelled_while_credentials_are_fetched_harms_no_other(
    s3: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with Provider([MINUTE, HOUR]) as provider:
        point_to("container", provider, monkeypatch, tmp_path)
        session = AioSession()
        await session.get_credentials()
        provider.slow.clear()
        provider.waiting.clear()
        async with open_store(s3.endpoint_url, session) as store:
            one = asyncio.create_task(store.put("one", b"x"))
            other = asyncio.create_task(store.put("other", b"x"))
            await provider.waiting.wait()  # so the loop is not blocked either
            one.cancel()
            await asyncio.wait([one])
            provider.slow.set()
            await other
            await store.put("third", b"x")

    assert one.cancelled()
    assert [request.path for request in s3.requests] == ["/bucket/other", "/bucket/third"]


@pytest.mark.parametrize("kind", ["container", "web identity", "process"])
async def test_refresh_that_fails_is_one_line_and_nothing_else(
    s3: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    async with Provider([MINUTE]) as server:
        process = Process(tmp_path / "process", [MINUTE])
        if kind == "process":
            monkeypatch.setenv("AWS_CONFIG_FILE", str(process.config))
        else:
            point_to(kind, server, monkeypatch, tmp_path)
        async with open_store(s3.endpoint_url) as store:
            await store.put("a", b"x")
            process.fail(SECRET_WORDS)
            body = f"<Error><Code>Nope</Code><Message>{SECRET_WORDS}</Message></Error>"
            server.failure = http_answer(400, body.encode(), {"Content-Type": "text/xml"})
            with pytest.raises(AccessDenied) as caught:
                await store.put("b", b"x")

    text = str(caught.value)
    provider = {"container": "container-role", "process": "custom-process"}.get(kind, kind)
    assert text.startswith("cannot write s3://bucket/b: no credentials could be had from ")
    assert provider.replace(" ", "-") in text
    assert "\n" not in text
    assert SECRET_WORDS not in text
    assert capfd.readouterr() == ("", "")  # botocore logs it, with a traceback


async def test_refresh_that_fails_early_does_not_matter(
    s3: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with Provider([14 * MINUTE]) as provider:
        point_to("container", provider, monkeypatch, tmp_path)
        async with open_store(s3.endpoint_url) as store:
            await store.put("a", b"x")
            provider.failure = http_answer(200, b"{}", {"Content-Type": "application/json"})
            await store.put("b", b"x")

    assert len(s3.requests) == 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "answer",
    [
        b"not json: the-secret-of-the-provider",
        b'{"AccessKeyId": "the-secret-of-the-provider"}',
        b"[]",
        b"\xff",
    ],
)
@pytest.mark.parametrize("kind", PROVIDERS)
async def test_nonsense_of_a_provider_is_one_line_that_shows_none_of_it(
    s3: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
    answer: bytes,
) -> None:
    async with Provider([HOUR]) as server:
        if kind == "process":
            process = Process(tmp_path / "process", [HOUR])
            for file in (tmp_path / "process").glob("answer.*"):
                file.write_bytes(answer)
            monkeypatch.setenv("AWS_CONFIG_FILE", str(process.config))
        else:
            point_to(kind, server, monkeypatch, tmp_path)
        server.failure = http_answer(200, answer, {"Content-Type": "application/json"})
        async with open_store(s3.endpoint_url) as store:
            with pytest.raises(AccessDenied, match="credentials") as caught:
                await store.put("a", b"x")
        try:
            asked = str(await find_credentials())
        except AccessDenied as error:
            asked = str(error)

    for text in (str(caught.value), asked):
        assert SECRET_WORDS not in text
        assert "\n" not in text


async def test_process_that_is_not_there_is_said_to_be_the_trouble(
    s3: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\ncredential_process = /nowhere/command x\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    async with open_store(s3.endpoint_url) as store:
        with pytest.raises(AccessDenied, match="no credentials could be had"):
            await store.put("a", b"x")


async def test_credentials_of_the_environment_that_say_they_have_expired_are_not_used(
    s3: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As `aws configure export-credentials --format env` writes them.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-0123456789")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2026-01-01T00:00:00Z")

    async with open_store(s3.endpoint_url) as store:
        with pytest.raises(AccessDenied, match="from env have expired; set new ones"):
            await store.put("a", b"x")
    assert s3.requests == []


async def test_credentials_of_the_environment_are_used_to_their_last_minute(
    s3: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-0123456789")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2999-01-01T00:00:00Z")
    session = AioSession()
    credentials: Any = await session.get_credentials()
    end = credentials._expiry_time
    credentials._time_fetcher = lambda: end - MINUTE

    async with open_store(s3.endpoint_url, session) as store:
        await store.put("a", b"x")
        credentials._time_fetcher = lambda: end
        with pytest.raises(AccessDenied, match="have expired"):
            await store.put("b", b"x")
    assert len(s3.requests) == 1


async def test_provider_that_hangs_is_not_waited_for_without_an_end(
    s3: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with Provider([MINUTE]) as provider:
        point_to("web identity", provider, monkeypatch, tmp_path)
        provider.slow.clear()
        async with open_store(s3.endpoint_url, patience=timedelta(seconds=0.2)) as store:
            with pytest.raises(AccessDenied, match=r"web-identity \(no answer in time\)"):
                await store.put("a", b"x")


async def test_instance_that_says_nothing_for_a_while_does_not_matter(
    s3: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The SDK takes this for an answer without credentials, and would throw away those that it has.
    session = AioSession()
    async with Provider([HOUR]) as provider:
        point_to("instance", provider, monkeypatch, tmp_path)
        async with open_store(s3.endpoint_url, session) as store:
            await store.put("a", b"x")
            credentials: Any = await session.get_credentials()
            now = credentials._time_fetcher
            provider.failure = http_answer(500)
            credentials._time_fetcher = lambda: now() + 48 * MINUTE
            await store.put("a", b"x")
            credentials._time_fetcher = lambda: now() + 55 * MINUTE
            with pytest.raises(AccessDenied, match="from iam-role"):
                await store.put("a", b"x")

    assert len(s3.requests) == 2
