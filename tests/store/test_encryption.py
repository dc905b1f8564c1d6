"""Encryption by the server: what each request says, and what comes of it on a real one."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.faults import ScriptedServer, http_answer
from tests.support.raw_s3 import RawBucket
from tests.support.s3_fixtures import open_s3_store
from tests.support.seaweedfs import SeaweedFS

from longshore.errors import AccessDenied, LongshoreError, StoreError, UsageError
from longshore.store.contract import Upload, UploadedPart
from longshore.store.encryption import NO_ENCRYPTION, Encryption, check_way
from longshore.store.s3 import S3Store

MIB = 1 << 20
KEY, OTHER = bytes(range(32)), bytes(range(32, 64))
TEXT = base64.b64encode(KEY).decode()
MD5 = base64.b64encode(hashlib.md5(KEY).digest()).decode()
CUSTOMER = Encryption(customer_key=KEY)
KMS = Encryption("aws:kms", "alias/cache")
SSE = "x-amz-server-side-encryption"
LAST_MODIFIED = {"Last-Modified": "Sun, 01 Nov 2026 10:00:00 GMT"}


def test_key_is_in_no_repr() -> None:
    for text in (repr(CUSTOMER), str(CUSTOMER), f"{[CUSTOMER]}"):
        assert "x01" not in text
        assert TEXT not in text


@pytest.mark.parametrize(
    "url",
    [
        "https://s3.example.com",
        "http://127.0.0.1:8333",
        "http://127.1.2.3",
        "http://localhost:80",
        "http://[::1]:80",
        None,
    ],
)
def test_customers_key_goes_over_tls_or_stays_on_the_machine(url: str | None) -> None:
    check_way(CUSTOMER, url)


@pytest.mark.parametrize(
    "url", ["http://s3.example.com", "http://10.0.0.1:9000", "http://localhost.example.com"]
)
def test_customers_key_is_not_sent_in_the_clear(url: str) -> None:
    with pytest.raises(UsageError, match="https://"):
        check_way(CUSTOMER, url)
    check_way(KMS, url)
    check_way(NO_ENCRYPTION, url)


async def test_endpoint_of_the_environment_is_no_way_around_it(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing must reach that host, so the name need not exist.
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.invalid")
    store = open_s3_store(None, s3_bucket, encryption=CUSTOMER)  # type: ignore[arg-type]
    async with store:
        with pytest.raises(UsageError, match="https://"):
            await store.put("a", b"x")


def sent(headers: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix(SSE): v for name, v in headers.items() if name.startswith(SSE)}


OF_BYTES = {"-customer-algorithm": "AES256", "-customer-key": TEXT, "-customer-key-md5": MD5}
OF_KMS = {"": "aws:kms", "-aws-kms-key-id": "alias/cache"}
UPLOAD = Upload("a", "u")
CALLS: dict[str, tuple[Callable[[S3Store], Any], dict[str, str], dict[str, str]]] = {
    "put": (lambda store: store.put("a", b"x"), OF_BYTES, OF_KMS),
    "create": (lambda store: store.create_upload("a"), OF_BYTES, OF_KMS),
    "part": (lambda store: store.upload_part(UPLOAD, 1, 0, b"x"), OF_BYTES, {}),
    "complete": (lambda s: s.complete_upload(UPLOAD, [UploadedPart(1, '"e"')]), OF_BYTES, {}),
    "get": (lambda store: store.get("a", limit_bytes=9), OF_BYTES, {}),
    "read": (lambda store: store.read("a", 0, 1, bytearray()), OF_BYTES, {}),
    "head": (lambda store: store.head("a"), OF_BYTES, {}),
    "abort": (lambda store: store.abort_upload(UPLOAD), {}, {}),
    "delete": (lambda store: store.delete(["a"]), {}, {}),
    "list": (lambda store: anext(store.list("a/")), {}, {}),
}


@pytest.mark.parametrize("call", CALLS)
async def test_each_request_says_what_it_has_to_and_no_more(call: str) -> None:
    act, of_customer, of_kms = CALLS[call]
    for encryption, expected in ((CUSTOMER, of_customer), (KMS, of_kms), (NO_ENCRYPTION, {})):
        async with (
            ScriptedServer([http_answer(409)]) as server,
            open_s3_store(server.endpoint_url, "bucket", encryption=encryption) as store,
        ):
            with pytest.raises(LongshoreError) as caught:
                await act(store)
            assert sent(server.requests[0].headers) == expected
        assert TEXT not in str(caught.value)


async def test_server_that_ignores_what_it_is_asked_for_is_found_out() -> None:
    plain = http_answer(200, b"", {"ETag": '"etag"'})
    for encryption in (CUSTOMER, KMS, Encryption("AES256"), Encryption("aws:kms:dsse")):
        async with (
            ScriptedServer([plain]) as server,
            open_s3_store(server.endpoint_url, "bucket", encryption=encryption) as store,
        ):
            with pytest.raises(StoreError, match="does not say that it encrypted it"):
                await store.put("a", b"x")


def xml(code: str, message: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


NOT_ALLOWED = "User: x is not authorized to perform: kms:GenerateDataKey on resource: y"
NEEDS_KEY = "The object was stored using a form of Server Side Encryption."


@pytest.mark.parametrize(
    ("encryption", "call", "status", "body", "said"),
    [
        (KMS, "put", 403, xml("AccessDenied", NOT_ALLOWED), "check --kms-key, .*kms:Decrypt"),
        (KMS, "create", 400, xml("KMS.NotFoundException", "no key"), "check --kms-key"),
        (NO_ENCRYPTION, "get", 403, xml("AccessDenied", NOT_ALLOWED), "kms:Decrypt"),
        (CUSTOMER, "get", 403, xml("AccessDenied", "no"), "another --sse-customer-key"),
        (CUSTOMER, "head", 403, b"", "another --sse-customer-key"),
        (CUSTOMER, "read", 400, xml("InvalidRequest", "not applicable"), "another prefix"),
        (CUSTOMER, "put", 403, xml("AccessDenied", "no"), "bucket's encryption settings"),
        (NO_ENCRYPTION, "get", 400, xml("InvalidRequest", NEEDS_KEY), "cannot be read without"),
        (NO_ENCRYPTION, "head", 400, b"", "was written with a --sse-customer-key"),
    ],
)
async def test_refusal_about_keys_says_what_to_do(
    encryption: Encryption, call: str, status: int, body: bytes, said: str
) -> None:
    async with (
        ScriptedServer([http_answer(status, body)]) as server,
        open_s3_store(server.endpoint_url, "bucket", encryption=encryption) as store,
    ):
        with pytest.raises(StoreError, match=said) as caught:
            await CALLS[call][0](store)
    assert TEXT not in str(caught.value)
    assert "s3://bucket/a" in str(caught.value)


@pytest.mark.s3
@pytest.mark.parametrize(
    ("encryption", "expected"),
    [
        (Encryption("AES256"), {"": "AES256"}),
        (KMS, OF_KMS),
        (CUSTOMER, {"-customer-algorithm": "AES256"}),
    ],
    ids=["s3", "kms", "customer"],
)
async def test_objects_are_encrypted_as_asked_however_they_are_written(
    seaweedfs: SeaweedFS, s3_bucket: str, encryption: Encryption, expected: dict[str, str]
) -> None:
    first, last = b"a" * (5 * MIB), b"z" * 1000
    raw = RawBucket(seaweedfs.endpoint_url, s3_bucket)
    async with open_s3_store(seaweedfs.endpoint_url, s3_bucket, encryption=encryption) as store:
        await store.put("one", b"contents")
        upload = await store.create_upload("several")
        parts = [
            await store.upload_part(upload, 1, 0, first),
            await store.upload_part(upload, 2, len(first), last),
        ]
        await store.complete_upload(upload, parts)

        across = bytearray()
        await store.read("several", len(first) - 10, 20, across)
        assert bytes(across) == first[-10:] + last[:10]
        assert (await store.get("one", limit_bytes=100)).data == b"contents"
        info = await store.head("several")
        assert info is not None
        assert info.size_bytes == len(first) + len(last)

    for key in ("one", "several"):
        answer = raw.client.head_object(Bucket=s3_bucket, Key=key, **encryption.of_their_bytes)
        headers = sent(answer["ResponseMetadata"]["HTTPHeaders"])
        assert {name: headers.get(name) for name in expected} == expected
    raw.close()


@pytest.mark.s3
async def test_wrong_or_missing_key_is_no_damaged_object(
    seaweedfs: SeaweedFS, s3_bucket: str
) -> None:
    url = seaweedfs.endpoint_url
    async with open_s3_store(url, s3_bucket, encryption=CUSTOMER) as store:
        await store.put("a", b"contents")
    wrong = Encryption(customer_key=OTHER)
    for encryption, said in ((wrong, "another --sse-customer"), (NO_ENCRYPTION, "customer-key")):
        async with open_s3_store(url, s3_bucket, encryption=encryption) as store:
            for call in ("get", "read", "head"):
                with pytest.raises(StoreError, match=said) as caught:
                    await CALLS[call][0](store)
                assert isinstance(caught.value, AccessDenied) or call == "head"


@pytest.mark.s3
async def test_kind_that_the_server_does_not_know_is_an_error(
    seaweedfs: SeaweedFS, s3_bucket: str
) -> None:
    # SeaweedFS 4.48 ignores aws:kms:dsse, and stores in the clear.
    dsse = Encryption("aws:kms:dsse", "alias/cache")
    async with open_s3_store(seaweedfs.endpoint_url, s3_bucket, encryption=dsse) as store:
        with pytest.raises(StoreError, match="does not say that it encrypted it"):
            await store.put("a", b"x")
