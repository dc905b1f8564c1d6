"""Encryption options on the command line, with a real S3 server."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest
from tests.cli.conftest import Shell
from tests.support.fake_engine import FakeEngine
from tests.support.raw_s3 import RawBucket
from tests.support.seaweedfs import SeaweedFS

KEY, OTHER = bytes(range(32)), bytes(range(32, 64))
TEXT = base64.b64encode(KEY).decode()


def objects(server: SeaweedFS, shell: Shell) -> list[dict[str, str]]:
    """Return the headers of all objects, asked with the key."""
    bucket = shell.environment["LONGSHORE_STORE"].split("/")[2]
    raw = RawBucket(server.endpoint_url, bucket)
    try:
        listed = raw.client.list_objects_v2(Bucket=bucket)["Contents"]
        with_key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}
        return [
            raw.client.head_object(Bucket=bucket, Key=item["Key"], **with_key)["ResponseMetadata"][
                "HTTPHeaders"
            ]
            for item in listed
        ]
    finally:
        raw.close()


@pytest.mark.s3
@pytest.mark.parametrize("form", ["raw file", "base64 file", "variable", "variable with a file"])
def test_export_and_import_with_a_customers_key(
    on_s3: Shell, seaweedfs: SeaweedFS, tmp_path: Path, form: str
) -> None:
    file = tmp_path / "key"
    file.write_bytes(KEY if form == "raw file" else f"{TEXT}\n".encode())
    flags: list[str] = []
    if form in ("raw file", "base64 file"):
        flags = ["--sse-customer-key", str(file)]
    elif form == "variable":
        on_s3.environment["LONGSHORE_SSE_CUSTOMER_KEY"] = TEXT
    elif form == "variable with a file":
        on_s3.environment["LONGSHORE_SSE_CUSTOMER_KEY"] = str(file)
    noise = random.Random(1).randbytes(9_000_000)  # more than one part of an upload
    on_s3.engine = FakeEngine()
    on_s3.engine.build([("FROM base", {"noise": noise})], "shop/web:1")

    assert on_s3("export", "web", "--strict", *flags) == 0, on_s3.err
    before, on_s3.engine = on_s3.engine, FakeEngine()
    assert on_s3("import", "web", "--strict", *flags) == 0, on_s3.err
    assert on_s3.engine.layers == before.layers
    assert on_s3("export", "web", "--strict", *flags) == 0

    found = objects(seaweedfs, on_s3)
    assert len(found) > 3
    assert {h["x-amz-server-side-encryption-customer-algorithm"] for h in found} == {"AES256"}


@pytest.mark.s3
def test_wrong_or_missing_key_is_one_line_that_says_what_to_do(
    on_s3: Shell, tmp_path: Path
) -> None:
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "other").write_bytes(OTHER)
    flag = "--sse-customer-key"
    assert on_s3("export", "--strict", flag, str(tmp_path / "key")) == 0

    for flags in ([flag, str(tmp_path / "other")], []):
        for command in ("import", "export"):
            assert on_s3(command, *flags) == 0
            (line,) = on_s3.err.splitlines()
            assert "warning: cannot read s3://" in line
            assert "--sse-customer-key" in line
            assert on_s3(command, "--strict", *flags) == 6
    assert on_s3("import", "--strict", flag, str(tmp_path / "key")) == 0


@pytest.mark.s3
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--sse", "AES256"], {"": "AES256"}),
        (["--sse", "aws:kms", "--kms-key", "cache"], {"": "aws:kms", "-aws-kms-key-id": "cache"}),
        (["--kms-key", "cache"], {"": "aws:kms", "-aws-kms-key-id": "cache"}),
    ],
)
def test_every_object_is_encrypted_as_asked(
    on_s3: Shell, seaweedfs: SeaweedFS, flags: list[str], expected: dict[str, str]
) -> None:
    assert on_s3("export", "--strict", *flags) == 0, on_s3.err
    on_s3.engine = FakeEngine()
    assert on_s3("import", "--strict") == 0

    found = objects(seaweedfs, on_s3)
    assert len(found) > 5
    for name, value in expected.items():
        assert {h[f"x-amz-server-side-encryption{name}"] for h in found} == {value}


@pytest.mark.s3
def test_encryption_that_the_server_does_not_confirm_publishes_nothing(on_s3: Shell) -> None:
    # SeaweedFS 4.48 ignores aws:kms:dsse, and stores in the clear.
    assert on_s3("export", "--sse", "aws:kms:dsse", "--strict") == 6
    assert "does not say that it encrypted it" in on_s3.err
    assert on_s3("import", "--strict") == 3


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--sse", "rot13"], "--sse: 'rot13' is no kind of encryption; known are AES256, aws:kms"),
        (["--sse", "AES256", "--kms-key", "x"], "--kms-key goes with --sse aws:kms"),
        (["--kms-key", "x\ny"], "--kms-key: it is no name of a KMS key"),
        (["--sse", "aws:kms", "--sse-customer-key", "key"], "goes with neither"),
        (["--sse-customer-key", "compose.yaml"], "--sse-customer-key: the key is not 32 bytes"),
        (["--sse-customer-key", TEXT], "--sse-customer-key: the key itself must not be there"),
        (["--sse-customer-key", TEXT[:-1]], "--sse-customer-key: the file of the key cannot be"),
        (
            ["--sse-customer-key", "key", "--endpoint-url", "http://s3.example.com"],
            "it needs an endpoint with https://",
        ),
        (["--store", "file:///tmp/x", "--sse", "AES256"], "a folder is not encrypted"),
    ],
)
def test_what_cannot_be_is_wrong_usage_in_one_line(
    built: Shell, monkeypatch: pytest.MonkeyPatch, flags: list[str], reason: str
) -> None:
    monkeypatch.chdir(built.directory)
    (built.directory / "key").write_bytes(KEY)
    built.environment["LONGSHORE_STORE"] = "s3://bucket/cache"

    for command in ("export", "import", "list"):
        assert built(command, *flags) == 2
        (line,) = built.err.splitlines()
        assert reason in line
        assert TEXT[:-1] not in built.err + built.out


def test_config_shows_no_customers_key(shell: Shell) -> None:
    shell.environment["LONGSHORE_SSE_CUSTOMER_KEY"] = TEXT

    options = {one["name"]: one["value"] for one in shell.json("config")["options"]}
    assert options["sse-customer-key"] == "(given)"
    assert TEXT not in shell.out + shell.err
