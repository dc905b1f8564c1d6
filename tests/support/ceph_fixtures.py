"""Fixtures with Ceph's S3 and STS, for the tests that LONGSHORE_TEST_CEPH=1 switches on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.support.ceph import Ceph, CephUnavailable, find_ceph

IS_WANTED = os.environ.get("LONGSHORE_TEST_CEPH") == "1"


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    """One cluster for all tests; who asked for it is not told that it was skipped."""
    if not IS_WANTED:  # a test file that was named is collected all the same
        pytest.skip("Ceph is optional: set LONGSHORE_TEST_CEPH=1")
    try:
        root = find_ceph()
    except CephUnavailable as unavailable:
        pytest.fail(str(unavailable), pytrace=False)
    with Ceph(root) as server:
        yield server


@pytest.fixture(scope="session")
def ceph_bucket(ceph: Ceph) -> str:
    """One bucket for tests that keep to a prefix of their own."""
    return ceph.make_bucket()
