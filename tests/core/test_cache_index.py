"""What a build begins with in a cache directory."""

from __future__ import annotations

import pytest

from longshore.core.cache_index import latest_manifest

REF_NAME = b"org.opencontainers.image.ref.name"


@pytest.mark.parametrize(
    ("index", "latest"),
    [
        (b'{"manifests": [{}, {"annotations": {"%s": "latest"}}]}' % REF_NAME, ""),
        (
            b'{"manifests": [{"digest": "a", "annotations": {"%s": "other"}},'
            b' {"digest": "b", "annotations": {"%s": "latest"}}]}' % (REF_NAME, REF_NAME),
            "b",
        ),
        (b'{"manifests": [{"annotations": {"%s": "other"}}]}' % REF_NAME, None),
        (b'{"manifests": [{"annotations": null}]}', None),
        (b'{"manifests": []}', None),
        (b"{}", None),
        (b"[]", None),
        (b'{"manif', None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_build_begins_with_the_manifest_named_latest(index: bytes, latest: str | None) -> None:
    assert latest_manifest(index) == latest
