"""Secrets are in no output, whatever fails: not in lines, JSON, tracebacks or arguments."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.cli.conftest import STEPS, Shell
from tests.cli.test_startup import SOURCE
from tests.support.echoing import EchoingServer
from tests.support.fake_docker import FakeDocker
from tests.support.fake_engine import FakeEngine
from tests.support.loop_thread import InThread
from tests.support.providers import Process
from tests.support.s3_fixtures import isolate_from_host

from longshore.core.signing import SigningKey

KEY = SigningKey.from_random(b"MARKED-signing-key-32-bytes-long").to_pem().decode()
CUSTOMER = base64.b64encode(b"MARKED-customer-key-32-bytes-lon").decode()
MARKS = {
    "access key": "MARKEDACCESSKEYID1",
    "secret key": "MARKED/secret+access/key",
    "session token": "MARKED+session/token==",
    "sso token": "MARKED-web-identity-token",
    "password": "MARKED-password",
    "signing key": KEY.splitlines()[1],
    "customer key": CUSTOMER,
    "customer key, raw": "MARKED-customer-key",
}
Commands = tuple[list[str], ...]
COMMANDS: Commands = (
    ["export"],
    ["import"],
    ["build"],
    ["list", "--all-scopes"],
    ["show", "web"],
    ["diff", "web"],
    ["cat", "web"],
    ["doctor"],
    ["config"],
    ["cache-from", "web"],
)


@pytest.fixture
def marked(
    built: Shell, docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Shell:
    """A project with secrets in every place where one can be."""
    isolate_from_host(monkeypatch)
    text = (tmp_path / "compose.yaml").read_text()
    built.write("compose.yaml", text.replace("{image", "{build: ., image"))
    built.environment |= {
        "LONGSHORE_STORE": "s3://bucket/cache",
        "LONGSHORE_SIGNING_KEY": KEY,
        "LONGSHORE_SSE_CUSTOMER_KEY": CUSTOMER,
    }
    real = {
        "AWS_ACCESS_KEY_ID": MARKS["access key"],
        "AWS_SECRET_ACCESS_KEY": MARKS["secret key"],
        "AWS_SESSION_TOKEN": MARKS["session token"],
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in real.items():
        monkeypatch.setenv(name, value)
    built.environment |= real
    return built


def assert_nothing_shows(shell: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    stray = "".join(capfd.readouterr())
    for text in (shell.out, shell.err, stray):
        for what, mark in MARKS.items():
            assert mark not in text, what
            assert mark[: len(mark) * 2 // 3] not in text, f"a part of the {what}"
        assert "MARKED" not in text


def run_all(shell: Shell, commands: Commands, capfd: pytest.CaptureFixture[str]) -> None:
    for command in commands:
        for more in (["-v"], ["--json"]):
            shell.engine = FakeEngine()
            shell.engine.build([*STEPS, ("COPY . .", {"app.js": b"one"})], "shop/web:1")
            code = shell(*command, *more)
            assert code in (0, 1, 2, 3, 6), (command, shell.err)
            assert "Traceback" not in shell.err
            assert_nothing_shows(shell, capfd)


ENTRY = "cache/shop/scopes/main/entries/web/linux-amd64/01a2035e-ef38-723f-a539-66c6cd9343e1"


@pytest.fixture
def echo(marked: Shell) -> Iterator[EchoingServer]:
    server = EchoingServer((403, 400))
    with InThread(server):
        marked.environment["LONGSHORE_ENDPOINT_URL"] = server.endpoint_url
        yield server


@pytest.mark.parametrize("statuses", [(403, 400), (409, 200, 404, 301)])
@pytest.mark.parametrize(
    ("keys", "commands"),
    [
        pytest.param(None, COMMANDS, id="at once"),
        pytest.param((), (["export"], ["doctor"]), id="writing"),
        pytest.param((ENTRY,), (["import"], ["list"], ["show", "web"]), id="reading"),
    ],
)
def test_server_that_quotes_requests_brings_no_secret_into_the_output(
    marked: Shell,
    capfd: pytest.CaptureFixture[str],
    statuses: tuple[int, ...],
    keys: tuple[str, ...] | None,
    commands: Commands,
) -> None:
    server = EchoingServer(statuses, keys)
    with InThread(server):
        marked.environment["LONGSHORE_ENDPOINT_URL"] = server.endpoint_url
        run_all(marked, commands, capfd)

    assert server.answered >= len(commands)
    # It did get them, and quoted them.
    for name in ("access key", "session token", *(["customer key"] if keys is not None else [])):
        assert MARKS[name] in server.seen
    assert MARKS["secret key"] not in server.seen


def test_sts_that_quotes_the_token_brings_it_not_into_the_output(
    marked: Shell,
    echo: EchoingServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    (tmp_path / "token").write_text(MARKS["sso token"])
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/builder")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", echo.endpoint_url)
    for command in (["list"], ["export"], ["doctor"]):
        marked(*command, "-v")
        assert "assume-role-with-web-identity" in marked.err + marked.out
        assert_nothing_shows(marked, capfd)
        marked(*command, "--json")
        assert_nothing_shows(marked, capfd)
    assert MARKS["sso token"] in echo.seen


def test_words_of_a_credential_process_are_not_shown(
    marked: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    process = Process(tmp_path / "process", [])
    (tmp_path / "process" / "answer.last").write_text(f"no json: {MARKS['secret key']}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(process.config))
    for words in (None, f"cannot log in with {MARKS['password']}"):
        if words:
            process.fail(words)
        for command in (["list"], ["export"], ["doctor"]):
            for more in ("-v", "--json"):
                marked(*command, more)
                assert "credentials" in marked.err + marked.out
                assert_nothing_shows(marked, capfd)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL_S3", "http://user:MARKED-password@127.0.0.1:1"),
        ("HTTP_PROXY", "http://user:MARKED-password@127.0.0.1:1"),
        ("HTTP_PROXY", "nonsense://user:MARKED-password@127.0.0.1:1"),
    ],
)
def test_addresses_with_passwords_are_not_shown(
    marked: Shell,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv(name, value)
    if name != "AWS_ENDPOINT_URL_S3":
        marked.environment["LONGSHORE_ENDPOINT_URL"] = "http://localhost:1"
    marked("list", "--timeout", "2s", "-v")
    assert_nothing_shows(marked, capfd)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--store", "s3://AKIA:MARKED-password@bucket/x"],
        ["--store", "AKIA:MARKED-password@bucket"],
        ["--store", "file://user:MARKED-password@host/x"],
        ["--store", "https://user:MARKED-password@host/x"],
        ["--endpoint-url", "https://user:MARKED-password@host"],
        ["--endpoint-url", "nonsense://user:MARKED-password@host"],
        ["--signing-key", KEY],
        ["--signing-key", KEY.splitlines()[1]],
        ["--sse-customer-key", CUSTOMER],
        ["--sse-customer-key", "MARKED-customer-key-32-bytes-lon"],
        ["--trusted-key", KEY],
    ],
)
def test_secret_in_the_wrong_place_is_refused_and_not_shown(
    marked: Shell, capfd: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    for more in ("-v", "--json"):
        assert marked("export", *arguments, more) == 2
        assert_nothing_shows(marked, capfd)


def test_secrets_are_in_no_arguments_and_our_keys_in_no_environment_of_children(
    marked: Shell, docker: FakeDocker, capfd: pytest.CaptureFixture[str]
) -> None:
    for names in ([], ["web"]):
        marked("build", "--no-import", "--no-export", *names)
        assert_nothing_shows(marked, capfd)

    assert docker.calls
    for call in docker.calls:
        assert "MARKED" not in " ".join(call["arguments"])
        assert not [v for v in call["environment"].values() if v in (KEY, CUSTOMER)]
        # A build may need these: they are the user's own, as in a build without longshore.
        assert call["environment"]["AWS_ACCESS_KEY_ID"] == MARKS["access key"]


BUG = """
from longshore import cli
from botocore.exceptions import ClientError
def broken(*_):
    try:
        raise ClientError(
            {"Error": {"Code": "X", "Message": %(quoted)r}}, "PutObject"
        )
    except ClientError as error:
        raise ExceptionGroup("several", [KeyError(%(secret)r), ValueError(%(token)r)]) from error
cli.run = broken
cli.main()
"""


def test_traceback_of_a_bug_shows_no_secret(tmp_path: Path) -> None:
    quoted = (
        f"Authorization: AWS4-HMAC-SHA256 Credential={MARKS['access key']}/x, Signature=MARKEDabc"
        f" x-amz-security-token: {MARKS['session token']} and {MARKS['customer key']}"
    )
    script = BUG % {
        "quoted": quoted,
        "secret": MARKS["secret key"],
        "token": MARKS["session token"],
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": SOURCE,
            "AWS_SECRET_ACCESS_KEY": MARKS["secret key"],
            "AWS_SESSION_TOKEN": MARKS["session token"],
            "LONGSHORE_SIGNING_KEY": KEY,
        },
        timeout=60,
    )

    assert done.returncode == 1
    for words in ("Traceback", "ClientError", "ExceptionGroup", "KeyError", 'File "<string>"'):
        assert words in done.stderr
    assert "MARKED" not in done.stderr + done.stdout


def test_refresh_that_fails_is_one_line_in_a_process_of_its_own(tmp_path: Path) -> None:
    # Within pytest the SDK's log, with its tracebacks, would go elsewhere.
    process = Process(tmp_path / "process", [timedelta(minutes=1)])
    command = tmp_path / "process" / "command"
    once = tmp_path / "once"
    text = command.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n[ ! -f {once} ] || exit 7\n")
    command.write_text(f"{text}touch {once}\n")
    done = subprocess.run(
        [sys.executable, "-m", "longshore", "list", "--project", "shop", "--scope", "main"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": SOURCE,
            "AWS_CONFIG_FILE": str(process.config),
            "AWS_DEFAULT_REGION": "us-east-1",
            "LONGSHORE_STORE": "s3://bucket/cache",
            "LONGSHORE_ENDPOINT_URL": "http://127.0.0.1:1",
        },
        timeout=60,
    )

    assert done.returncode == 6
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "no credentials could be had from custom-process" in line
