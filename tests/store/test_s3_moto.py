"""S3 as moto understands it: the semantics of the requests, and nothing about security."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer
from tests.store.s3_contract import S3Contract
from tests.support.raw_s3 import RawBucket

from longshore.store.contract import Store


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def make_bucket(endpoint_url: str) -> str:
    bucket = f"test-{uuid.uuid4().hex[:20]}"
    raw = RawBucket(endpoint_url, bucket)
    raw.client.create_bucket(Bucket=bucket)
    raw.close()
    return bucket


@pytest.fixture(scope="module")
def shared_bucket(moto_url: str) -> str:
    return make_bucket(moto_url)


class TestS3StoreOnMoto(S3Contract):
    uploads_tell_time = False  # moto says the same of all

    @pytest.fixture
    def endpoint_url(self, moto_url: str) -> str:
        return moto_url

    @pytest.fixture
    def s3_bucket(self, moto_url: str) -> str:
        return make_bucket(moto_url)

    async def raw_fill(self, store: Store, keys: Sequence[str]) -> None:
        # moto runs in this process, and a request to it takes ten milliseconds.
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        for key in keys:
            backend.put_object(self.raw_bucket.bucket, self.raw_bucket.prefix + key, b"x")
