"""The store's promises on Ceph's S3: a server that shares no code with the others."""

from __future__ import annotations

import pytest
from tests.store.s3_contract import S3Contract
from tests.support.ceph import Ceph

pytestmark = pytest.mark.s3


class TestS3StoreOnCeph(S3Contract):
    @pytest.fixture
    def endpoint_url(self, ceph: Ceph) -> str:
        return ceph.endpoint_url

    @pytest.fixture
    def shared_bucket(self, ceph_bucket: str) -> str:
        return ceph_bucket

    @pytest.fixture
    def s3_bucket(self, ceph: Ceph) -> str:
        return ceph.make_bucket()
