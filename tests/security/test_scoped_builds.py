"""Credentials of one scope are enough for all that a build does, on a real server."""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiobotocore.session import AioSession
from tests.support.cache import Notes, export, import_, service
from tests.support.fake_engine import FakeEngine
from tests.support.isolation import ROOT, hand_out, open_session_store
from tests.support.raw_s3 import RawBucket
from tests.support.seaweedfs import SeaweedFS

import longshore
from longshore.core.session_credentials import SessionCredentials
from longshore.errors import AccessDenied, CorruptData, EngineError
from longshore.store.s3 import S3Store

pytestmark = pytest.mark.s3

WEB, WORKER = service("web", "web:1"), service("worker", "worker:1")
BASE = ("base", {"bin/sh": b"#!" * 3000})
BUILD = ("pr-1", "main")


def machine(version: int, size_bytes: int = 100_000) -> FakeEngine:
    """A machine on which two services with a common base were built."""
    engine = FakeEngine()
    noise = random.Random(version).randbytes(size_bytes)
    engine.build([BASE, ("web", {"app": noise})], "web:1")
    engine.build([BASE, ("worker", {"job": b"%d" % version * 1000})], "worker:1")
    return engine


@pytest.fixture
def raw(seaweedfs: SeaweedFS, s3_bucket: str) -> Iterator[RawBucket]:
    bucket = RawBucket(seaweedfs.endpoint_url, s3_bucket, f"{ROOT}/")
    yield bucket
    bucket.close()


@asynccontextmanager
async def granted(
    server: SeaweedFS, bucket: str, scope: str, *fallback: str, read_only: bool = False
) -> AsyncIterator[S3Store]:
    session = await hand_out(server, bucket, scope=scope, fallback=fallback, read_only=read_only)
    async with open_session_store(server, bucket, session) as store:
        yield store


async def outcomes(store: S3Store, *scopes: str) -> dict[str, tuple[str, str | None]]:
    """Import into a fresh machine, and tell what became of each service."""
    result = await import_(FakeEngine(), store, [WEB, WORKER], scopes=scopes)
    return {done.service: (done.outcome, done.scope) for done in result.services}


async def test_a_build_imports_and_exports(seaweedfs: SeaweedFS, s3_bucket: str) -> None:
    async with granted(seaweedfs, s3_bucket, "main") as store:
        assert (await import_(FakeEngine(), store, [WEB])).services[0].outcome == "miss"
        await export(machine(1), store, [WEB, WORKER])

    async with granted(seaweedfs, s3_bucket, *BUILD) as store:
        hit = ("hit", "main")
        assert await outcomes(store, *BUILD) == {"web": hit, "worker": hit}
        built, notes = machine(2, 20 << 20), Notes()  # more than one part
        done = await export(built, store, [WEB, WORKER], scopes=BUILD, notes=notes)
        assert notes.warnings == []
        # Layers of the fallback scope are used and not stored again.
        assert [layer.new for layer in done.services[0].layers] == [False, True]

        fresh = FakeEngine()
        result = await import_(fresh, store, [WEB, WORKER], scopes=BUILD)
        assert [(s.outcome, s.scope) for s in result.services] == [("hit", "pr-1")] * 2
        assert fresh.images.keys() == built.images.keys()
        assert fresh.layers == built.layers


async def test_a_build_that_may_only_read_imports_and_cannot_export(
    seaweedfs: SeaweedFS, s3_bucket: str, raw: RawBucket
) -> None:
    async with granted(seaweedfs, s3_bucket, "main") as store:
        await export(machine(1), store, [WEB, WORKER])
    before = await raw.objects()

    async with granted(seaweedfs, s3_bucket, *BUILD, read_only=True) as store:
        assert (await outcomes(store, *BUILD))["web"] == ("hit", "main")
        with pytest.raises(AccessDenied, match="pr-1"):
            await export(machine(2), store, [WEB], scopes=BUILD)
    assert await raw.objects() == before
    assert await raw.uploads() == []


async def test_an_export_that_fails_aborts_its_uploads(
    seaweedfs: SeaweedFS, s3_bucket: str, raw: RawBucket
) -> None:
    engine = machine(1, 20 << 20)
    engine.save_dies_after = 19 << 20

    async with granted(seaweedfs, s3_bucket, *BUILD) as store:
        with pytest.raises(EngineError):
            await export(engine, store, [WEB], scopes=BUILD)
    assert await raw.uploads() == []


@pytest.mark.parametrize("lost", ["packs", "recipes"])
async def test_what_is_lost_is_a_miss_and_stored_anew(
    seaweedfs: SeaweedFS, s3_bucket: str, raw: RawBucket, lost: str
) -> None:
    async with granted(seaweedfs, s3_bucket, *BUILD) as store:
        await export(machine(1), store, [WEB], scopes=BUILD)
        gone = [key for key in await raw.objects() if f"/{lost}/" in key]
        for key in gone:
            raw.client.delete_object(Bucket=s3_bucket, Key=f"{ROOT}/{key}")

        notes = Notes()
        result = await import_(FakeEngine(), store, [WEB], scopes=BUILD, notes=notes)
        assert result.services[0].outcome == "miss"
        assert all(isinstance(warning, CorruptData) for warning in notes.warnings)
        await export(machine(1), store, [WEB], scopes=BUILD)
        result = await import_(FakeEngine(), store, [WEB], scopes=BUILD)
        assert result.services[0].outcome == "hit"


def run(server: SeaweedFS, bucket: str, *arguments: str) -> str:
    """Run `longshore credentials` as a broker does, and return what it writes."""
    source = str(Path(longshore.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "longshore", *command(server, bucket), *arguments],
        env={
            **os.environ,
            "PYTHONPATH": source,
            "AWS_ACCESS_KEY_ID": server.broker.access_key,
            "AWS_SECRET_ACCESS_KEY": server.broker.secret_key,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "valid until" in done.stderr
    return done.stdout


def command(server: SeaweedFS, bucket: str) -> list[str]:
    return [
        *("credentials", "--store", f"s3://{bucket}/{ROOT}"),
        *("--endpoint-url", server.endpoint_url, "--role-arn", server.role_arn),
        *("--project", "shop", "--scope", "pr-1", "--fallback", "main"),
    ]


async def check_reach(server: SeaweedFS, bucket: str, session: SessionCredentials) -> None:
    async with open_session_store(server, bucket, session) as store:
        await store.put("shop/scopes/pr-1/packs/x", b"x")
        for other in ("shop/scopes/main/packs/x", "shop/scopes/pr-2/packs/x", "x/scopes/main/x"):
            with pytest.raises(AccessDenied):
                await store.put(other, b"x")


async def test_the_command_hands_out_credentials_that_work(
    seaweedfs: SeaweedFS, s3_bucket: str
) -> None:
    document = json.loads(run(seaweedfs, s3_bucket, "--json"))

    found = document["credentials"]
    expires_at = found.pop("expires_at")
    assert expires_at.endswith("Z")
    session = await hand_out(seaweedfs, s3_bucket)
    await check_reach(
        seaweedfs, s3_bucket, SessionCredentials(**found, expires_at=session.expires_at)
    )


async def test_the_aws_libraries_run_the_command_by_themselves(
    seaweedfs: SeaweedFS, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [sys.executable, "-m", "longshore", *command(seaweedfs, s3_bucket)]
    broker = (
        "env",
        f"PYTHONPATH={Path(longshore.__file__).parents[1]}",
        f"AWS_ACCESS_KEY_ID={seaweedfs.broker.access_key}",
        f"AWS_SECRET_ACCESS_KEY={seaweedfs.broker.secret_key}",
    )
    line = shlex.join([*broker, *words, "--format", "process"])
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {line}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    # As a build does: nothing but the configuration says where credentials come from.
    frozen = await (await AioSession().get_credentials()).get_frozen_credentials()
    session = await hand_out(seaweedfs, s3_bucket)
    await check_reach(
        seaweedfs,
        s3_bucket,
        SessionCredentials(frozen.access_key, frozen.secret_key, frozen.token, session.expires_at),
    )
