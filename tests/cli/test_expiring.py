"""Credentials that end during a build: refreshed where they can be, one clear line where not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.cli.conftest import Shell
from tests.support.expiring import ExpiringProxy
from tests.support.fake_engine import FakeEngine
from tests.support.loop_thread import InThread
from tests.support.providers import Process
from tests.support.raw_s3 import RawBucket
from tests.support.seaweedfs import ADMIN, SeaweedFS

pytestmark = pytest.mark.s3

LINE = "the credentials have expired (400 ExpiredToken); get new ones, or use a role or a"


@pytest.fixture
def proxy(on_s3: Shell, seaweedfs: SeaweedFS) -> Iterator[ExpiringProxy]:
    server = ExpiringProxy("127.0.0.1", seaweedfs.port)
    with InThread(server):
        on_s3.environment["LONGSHORE_ENDPOINT_URL"] = server.endpoint_url
        yield server


def change(shell: Shell, version: int) -> None:
    """Build the service anew, with a layer of more than one part of an upload."""
    noise = random.Random(version).randbytes(9_000_000)
    shell.engine = FakeEngine()
    shell.engine.build([("FROM base", {"bin/sh": b"#!"}), ("RUN make", {"x": noise})], "shop/web:1")


def entries(server: SeaweedFS, shell: Shell) -> list[str]:
    raw = RawBucket(server.endpoint_url, shell.environment["LONGSHORE_STORE"].split("/")[2])
    try:
        listed = raw.client.list_objects_v2(Bucket=raw.bucket)["Contents"]
    finally:
        raw.close()
    return [item["Key"] for item in listed if "/entries/" in item["Key"]]


def test_export_with_expired_credentials_stops_with_one_line_and_leaves_the_cache_as_it_was(
    on_s3: Shell, proxy: ExpiringProxy, seaweedfs: SeaweedFS
) -> None:
    change(on_s3, 1)
    assert on_s3("export", "web", "--strict") == 0
    proxy.passed = 0
    change(on_s3, 2)
    assert on_s3("export", "web", "--strict") == 0
    whole, stored = proxy.passed, entries(seaweedfs, on_s3)
    expected = on_s3.engine.images

    for good_for in range(whole):
        proxy.good_for, proxy.passed = good_for, 0
        change(on_s3, 3 + good_for)
        strict = good_for % 2
        code = on_s3("export", "web", *["--strict"] * strict)
        assert code == (6 if strict else 0), on_s3.err
        (line,) = [x for x in on_s3.err.splitlines() if x.startswith(("warning", "error"))]
        assert LINE in line
        assert ADMIN.secret_key not in on_s3.err
        assert entries(seaweedfs, on_s3) == stored

    assert whole > 8
    given_up = [r for r in proxy.refused if r.startswith("DELETE ") and "uploadId=" in r]
    assert given_up
    proxy.good_for, on_s3.engine = None, FakeEngine()
    assert on_s3("import", "web", "--strict") == 0, on_s3.err
    assert on_s3.engine.images == expected


def test_import_with_expired_credentials_is_one_line(on_s3: Shell, proxy: ExpiringProxy) -> None:
    change(on_s3, 1)
    assert on_s3("export", "web", "--strict") == 0
    proxy.passed = 0
    on_s3.engine = FakeEngine()
    assert on_s3("import", "web", "--strict") == 0
    whole = proxy.passed

    for good_for in range(whole):
        proxy.good_for, proxy.passed = good_for, 0
        on_s3.engine = FakeEngine()
        assert on_s3("import", "web") == 0
        lines = [line for line in on_s3.err.splitlines() if line.startswith("warning")]
        assert len(lines) == 1
        assert LINE in lines[0]
    proxy.passed = 0
    assert on_s3("import", "web", "--strict") == 6


def test_export_and_import_go_on_while_credentials_are_refreshed(
    on_s3: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Good for a minute each, so that botocore has to ask anew for every request.
    process = Process(tmp_path / "process", [timedelta(minutes=1)], ADMIN)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(process.config))
    change(on_s3, 1)

    assert on_s3("export", "web", "--strict") == 0, on_s3.err
    before, on_s3.engine = on_s3.engine, FakeEngine()
    assert on_s3("import", "web", "--strict") == 0, on_s3.err
    assert on_s3.engine.images == before.images
    assert process.asked > 10

    process.fail("the-secret-of-the-provider")
    for command in ("export", "import"):
        assert on_s3(command, "web", "--strict") == 6
        (line,) = on_s3.err.splitlines()
        assert "no credentials could be had" in line
        assert "the-secret" not in on_s3.err
