from __future__ import annotations

import pytest
from tests.support.s3_fixtures import isolate_from_host, s3_bucket, s3_store, seaweedfs

__all__ = ["s3_bucket", "s3_store", "seaweedfs"]


@pytest.fixture(autouse=True)
def nothing_from_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_from_host(monkeypatch)
