"""What answers of an S3 server say, and whether it is what was asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from longshore.errors import CorruptData, StoreError
from longshore.store.contract import ObjectInfo, PendingUpload, Upload
from longshore.store.safe_keys import is_key

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def check_range(response: Mapping[str, Any], url: str, first: int, end: int) -> None:
    """Make sure that an answer brings the bytes that were asked for.

    Raises:
        CorruptData: the object ends before `end`.
        StoreError: the server sends something else.
    """
    sent = _CONTENT_RANGE.fullmatch(response.get("ContentRange", ""))
    if sent is None:  # a server may send all of an object of which all was wanted
        sent_first, sent_end = 0, response.get("ContentLength", 0)
        whole = sent_end
    else:
        sent_first, sent_end = int(sent[1]), int(sent[2]) + 1
        whole = int(sent[3]) if sent[3].isdigit() else sent_end
    if sent_first == first and sent_end < end:
        raise CorruptData(f"{url} ends after {whole} bytes, want {end}")
    if (sent_first, sent_end) != (first, end):
        raise StoreError(
            f"cannot read {url}: the store sent bytes {sent_first} to {sent_end}, "
            f"want {first} to {end}; it does not support ranges"
        )


def to_second(modified_at: datetime) -> datetime:
    """Cut a time to whole seconds."""
    # Listings have fractions of a second that Last-Modified cannot carry: an object has one time.
    return modified_at.astimezone(UTC).replace(microsecond=0)


def objects_of(page: Mapping[str, Any], root: str) -> Sequence[ObjectInfo]:
    """Read a page of a listing; keys are below `root`."""
    keyed = ((item["Key"].removeprefix(root), item) for item in page.get("Contents", ()))
    return tuple(
        ObjectInfo(key, item["Size"], to_second(item["LastModified"]))
        for key, item in keyed
        if is_key(key)  # others may keep objects here too, and consoles make `folder/` markers
    )


def uploads_of(page: Mapping[str, Any], root: str) -> Sequence[PendingUpload]:
    """Read a page of a listing of uploads; keys are below `root`."""
    return tuple(
        PendingUpload(Upload(key, item["UploadId"]), to_second(item["Initiated"]))
        for item in page.get("Uploads", ())
        if is_key(key := item["Key"].removeprefix(root))
    )
