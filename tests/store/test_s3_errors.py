"""What a misbehaving server or network becomes: an error of the right class, fit for people."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from aiobotocore.session import AioSession
from tests.support.certificates import make_certificate
from tests.support.faults import Answer, ScriptedServer, http_answer, reset
from tests.support.loop_thread import all_accepted
from tests.support.s3_fixtures import open_s3_store
from tests.support.seaweedfs import Credentials

from longshore.errors import (
    AccessDenied,
    CorruptData,
    LongshoreError,
    ObjectMissing,
    ObjectTooLarge,
    StoreError,
    StoreUnavailable,
)
from longshore.store import s3_connection
from longshore.store.contract import Upload, UploadedPart
from longshore.store.s3 import S3Store

KEY = "AKIASECRETKEYNAME777"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYTESTSECRET"
TOKEN = "FwoGZXIvYXdzEBYaDKtokentokentokentokentokentokentoken=="
LAST_MODIFIED = {"Last-Modified": "Sun, 01 Nov 2026 10:00:00 GMT"}


def open_store(endpoint_url: str, *, read_timeout: float = 10) -> S3Store:
    return open_s3_store(
        endpoint_url,
        "the-bucket",
        prefix="root",
        read_timeout=timedelta(seconds=read_timeout),
        credentials=Credentials(KEY, SECRET),
        token=TOKEN,
    )


def xml_error(code: str, message: str = "", more: str = "") -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
        f"<Message>{message}</Message>{more}</Error>"
    ).encode()


def headers(**fields: str) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in fields.items()}


def assert_fit_for_people(error: LongshoreError) -> None:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 600
    for secret in (KEY, SECRET, TOKEN, SECRET[:20], TOKEN[:20]):
        assert secret not in text


def stored(**fields: str) -> bytes:
    return http_answer(200, b"", {"ETag": '"etag"', **fields})


async def failure_of(
    answer: Answer,
    call: Callable[[S3Store], Awaitable[object]],
    *,
    read_timeout: float = 10,
) -> LongshoreError:
    async with (
        ScriptedServer([answer]) as server,
        open_store(server.endpoint_url, read_timeout=read_timeout) as store,
    ):
        with pytest.raises(LongshoreError) as caught:
            await call(store)
        assert server.requests
    assert_fit_for_people(caught.value)
    return caught.value


def get(store: S3Store) -> Awaitable[object]:
    return store.get("a/b", limit_bytes=1000)


def put(store: S3Store) -> Awaitable[object]:
    return store.put("a/b", b"x" * 1000)


LEAKY = (
    f"<AWSAccessKeyId>{KEY}</AWSAccessKeyId><SignatureProvided>{SECRET}</SignatureProvided>"
    f"<Token-0>{TOKEN}</Token-0>"
)

ANSWERS: dict[str, tuple[int, bytes, dict[str, str], type[LongshoreError], str]] = {
    "busy": (503, xml_error("SlowDown"), {}, StoreUnavailable, "503 SlowDown; try again later"),
    "broken": (500, xml_error("InternalError"), {}, StoreUnavailable, "500 InternalError"),
    "gateway": (502, b"<html><body>Bad Gateway</body></html>", {}, StoreUnavailable, "502"),
    "broken without a word": (500, b"", {}, StoreUnavailable, "500"),
    "too many": (429, xml_error("TooManyRequests"), {}, StoreUnavailable, "429"),
    "slow": (400, xml_error("RequestTimeout"), {}, StoreUnavailable, "RequestTimeout"),
    "expired": (403, xml_error("ExpiredToken", more=LEAKY), {}, AccessDenied, "have expired"),
    "expired at AWS": (400, xml_error("ExpiredToken", more=LEAKY), {}, AccessDenied, "expired"),
    "unknown key": (403, xml_error("InvalidAccessKeyId", more=LEAKY), {}, AccessDenied, "wrong"),
    "bad signature": (
        403,
        xml_error("SignatureDoesNotMatch", f"Signature={SECRET}", LEAKY),
        {},
        AccessDenied,
        "expired or are wrong",
    ),
    "denied": (
        403,
        xml_error("AccessDenied", f"{KEY} may not, says {TOKEN} and {SECRET}", LEAKY),
        {},
        AccessDenied,
        "access denied .*check the credentials and their policy",
    ),
    "denied without a code": (403, xml_error(""), {}, AccessDenied, "access denied"),
    "denied without a body": (403, b"", {}, AccessDenied, "access denied"),
    "unauthorized": (401, b"", {}, AccessDenied, "access denied"),
    "skewed": (403, xml_error("RequestTimeTooSkewed"), {}, StoreError, "clock of this machine"),
    "no bucket": (
        404,
        xml_error("NoSuchBucket"),
        {},
        StoreError,
        "bucket the-bucket does not exist; create it or check --store",
    ),
    "moved": (
        301,
        xml_error("PermanentRedirect"),
        headers(x_amz_bucket_region="eu-west-7"),
        StoreError,
        "another region .*eu-west-7",
    ),
    "moved to nowhere": (301, b"", {}, StoreError, "another region .*check the endpoint"),
    "wrong region": (
        400,
        xml_error("AuthorizationHeaderMalformed", more="<Region>eu-west-8</Region>"),
        {},
        StoreError,
        "eu-west-8",
    ),
    "nothing said": (400, b"", {}, StoreError, "expired credentials or a wrong region"),
    "unknown": (
        409,
        xml_error("BucketIsOnFire", "The  bucket\n is on fire."),
        {},
        StoreError,
        "409 BucketIsOnFire: The bucket is on fire; check",
    ),
    "full": (507, xml_error("XMinioStorageFull"), {}, StoreError, "make room"),
    "not implemented": (501, xml_error("NotImplemented"), {}, StoreError, "does not support"),
    "garbage": (409, b"<<<not xml & never was", {}, StoreError, "409"),
}


@pytest.mark.parametrize("call", [get, put])
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_error_answer_is_understood(
    name: str, call: Callable[[S3Store], Awaitable[object]]
) -> None:
    status, body, fields, kind, message = ANSWERS[name]

    error = await failure_of(http_answer(status, body, fields), call)

    assert isinstance(error, kind)
    assert isinstance(error, StoreUnavailable) == (kind is StoreUnavailable)
    assert isinstance(error, AccessDenied) == (kind is AccessDenied)
    assert re.search(message, str(error))
    assert "s3://the-bucket/root/a/b" in str(error)


async def test_a_missing_object_is_told_from_a_missing_bucket() -> None:
    error = await failure_of(http_answer(404, xml_error("NoSuchKey")), get)
    assert type(error) is ObjectMissing

    error = await failure_of(http_answer(404, b""), get)
    assert type(error) is ObjectMissing

    error = await failure_of(http_answer(404, xml_error("NoSuchBucket")), get)
    assert type(error) is StoreError


async def test_a_denied_read_says_that_the_object_may_be_missing() -> None:
    error = await failure_of(http_answer(403, xml_error("AccessDenied")), get)
    assert "it may also not exist, if the credentials do not allow s3:ListBucket" in str(error)

    error = await failure_of(http_answer(403, xml_error("AccessDenied")), put)
    assert "not exist" not in str(error)


async def test_head_takes_a_missing_bucket_for_no_answer_but_an_error() -> None:
    # The answer to a HEAD has no body, so only a second question tells the two apart.
    error = await failure_of(http_answer(404), lambda store: store.head("a/b"))
    assert type(error) is StoreError
    assert "bucket the-bucket does not exist" in str(error)

    async with (
        ScriptedServer([http_answer(404), http_answer(200), http_answer(404)]) as server,
        open_store(server.endpoint_url) as store,
    ):
        assert await store.head("a/b") is None
        assert await store.head("a/b") is None
        assert [request.method for request in server.requests] == ["HEAD", "HEAD", "HEAD"]
        assert server.requests[1].path == "/the-bucket"


@pytest.mark.parametrize("status", [403, 500, 400])
async def test_head_takes_no_other_failure_for_absence(status: int) -> None:
    error = await failure_of(http_answer(status), lambda store: store.head("a/b"))

    assert isinstance(error, StoreError)


DENIED = http_answer(403)  # without a body, as the answer to a HEAD is
READS: dict[str, Callable[[S3Store], Awaitable[object]]] = {
    "get": get,
    "read": lambda store: store.read("a/b", 0, 10, bytearray()),
    "head": lambda store: store.head("a/b"),
}


@pytest.mark.parametrize("call", READS.values(), ids=READS)
@pytest.mark.parametrize("keys", [(), ("root/a/b0", "root/a/b/c")], ids=["nothing", "others"])
async def test_a_read_that_is_refused_is_missing_if_its_key_is_not_listed(
    call: Callable[[S3Store], Awaitable[object]], keys: tuple[str, ...]
) -> None:
    # With credentials that may list below a prefix only, S3 says 403 where it means 404.
    page = page_of("</Contents><Contents>".join(f"<Key>{key}</Key>" for key in keys))
    page = page if keys else page.replace(b"<Contents></Contents>", b"")
    async with (
        ScriptedServer([DENIED, http_answer(200, page)]) as server,
        open_store(server.endpoint_url) as store,
    ):
        if call is READS["head"]:
            assert await call(store) is None
        else:
            with pytest.raises(ObjectMissing, match="s3://the-bucket/root/a/b is not in the store"):
                await call(store)

        refused, listing = server.requests  # one request more, and no other
        assert refused.path == "/the-bucket/root/a/b"
        assert (listing.method, listing.path.partition("?")[0]) == ("GET", "/the-bucket")
        assert "prefix=root%2Fa%2Fb&" in listing.path + "&"


@pytest.mark.parametrize("call", READS.values(), ids=READS)
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda: http_answer(200, page_of("<Key>root/a/b</Key>")), AccessDenied),
        (lambda: DENIED, AccessDenied),
        (lambda: http_answer(200, b"<html></html>"), AccessDenied),
        (lambda: http_answer(503, xml_error("SlowDown")), StoreUnavailable),
    ],
    ids=["listed", "refused", "not S3", "busy"],
)
async def test_a_read_that_is_refused_stays_refused_if_its_key_may_be_there(
    call: Callable[[S3Store], Awaitable[object]],
    answer: Callable[[], Answer],
    kind: type[LongshoreError],
) -> None:
    async with (
        ScriptedServer([DENIED, answer()]) as server,
        open_store(server.endpoint_url) as store,
    ):
        with pytest.raises(kind) as caught:
            await call(store)
        assert len(server.requests) == 2
    assert_fit_for_people(caught.value)


@pytest.mark.parametrize("call", READS.values(), ids=READS)
async def test_a_read_that_is_not_refused_asks_nothing_more(
    call: Callable[[S3Store], Awaitable[object]],
) -> None:
    expired = http_answer(403, xml_error("ExpiredToken"))
    for answer in (http_answer(503), expired if call is not READS["head"] else http_answer(500)):
        async with (
            ScriptedServer([answer]) as server,
            open_store(server.endpoint_url) as store,
        ):
            with pytest.raises(StoreError):
                await call(store)
            assert len(server.requests) == 1


async def test_a_body_that_is_cut_short_keeps_what_came() -> None:
    ranged = {"Content-Range": "bytes 0-9/10", **LAST_MODIFIED}
    into = bytearray()

    error = await failure_of(
        http_answer(206, b"0123", ranged, content_length=10),
        lambda store: store.read("a/b", 0, 10, into),
    )

    assert type(error) is StoreUnavailable
    assert into == b"0123"


async def test_a_reset_in_the_body_keeps_what_came() -> None:
    arrived = asyncio.Event()

    class Watched(bytearray):
        def __iadd__(self, data: Any) -> Self:  # type: ignore[misc]  # bytearray's are as odd
            arrived.set()
            return super().__iadd__(data)

    into = Watched()

    async def reset_midway(writer: asyncio.StreamWriter) -> None:
        ranged = {"Content-Range": "bytes 0-9/10", **LAST_MODIFIED}
        writer.write(http_answer(206, b"0123", ranged, content_length=10))
        await writer.drain()
        await arrived.wait()
        reset(writer)

    error = await failure_of(reset_midway, lambda store: store.read("a/b", 0, 10, into))

    assert type(error) is StoreUnavailable
    assert "the connection" in str(error)
    assert into == b"0123"


async def test_a_small_object_that_is_cut_short_is_not_taken_for_whole() -> None:
    error = await failure_of(http_answer(200, b"0123", LAST_MODIFIED, content_length=10), get)

    assert type(error) is StoreUnavailable


async def test_a_reset_instead_of_an_answer_can_be_retried() -> None:
    async def reset_at_once(writer: asyncio.StreamWriter) -> None:
        reset(writer)

    for call in (get, put):
        assert type(await failure_of(reset_at_once, call)) is StoreUnavailable


async def never(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def test_no_answer_is_a_timeout_that_can_be_retried() -> None:
    for call in (get, put):
        error = await failure_of(never, call, read_timeout=0.2)
        assert type(error) is StoreUnavailable
        assert "did not answer in time" in str(error)


async def test_a_stall_in_the_body_is_a_timeout_that_keeps_what_came() -> None:
    into = bytearray()

    async def stall_midway(writer: asyncio.StreamWriter) -> None:
        ranged = {"Content-Range": "bytes 0-9/10", **LAST_MODIFIED}
        writer.write(http_answer(206, b"0123", ranged, content_length=10))
        await writer.drain()
        await asyncio.Event().wait()

    error = await failure_of(
        stall_midway, lambda store: store.read("a/b", 0, 10, into), read_timeout=0.2
    )

    assert type(error) is StoreUnavailable
    assert "did not answer in time" in str(error)
    assert into == b"0123"


async def test_a_server_that_takes_no_bytes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_connection, "_SLOWEST_BYTES_PER_SECOND", 1024**3)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            reset(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with open_store(url, read_timeout=0.2) as store:
        store._connection._connect_timeout = timedelta(0)
        with pytest.raises(StoreUnavailable, match="did not answer in time"):
            await store.put("a/b", bytes(16 * 1024 * 1024))  # more than socket buffers hold
    await all_accepted()
    server.close()


async def test_a_refused_connection_can_be_retried(unused_tcp_port: int) -> None:
    async with open_store(f"http://127.0.0.1:{unused_tcp_port}") as store:
        with pytest.raises(StoreUnavailable, match="no connection to http") as caught:
            await store.get("a/b", limit_bytes=1)
    assert_fit_for_people(caught.value)


async def test_an_object_over_the_limit_is_not_read() -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(200, b"", LAST_MODIFIED, content_length=10**12))
        await asyncio.Event().wait()

    error = await failure_of(endless, get)

    assert type(error) is ObjectTooLarge
    assert "1000000000000 bytes, more than the 1000 allowed" in str(error)


async def test_a_body_of_unknown_length_is_read_up_to_the_limit() -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
            b"Last-Modified: Sun, 01 Nov 2026 10:00:00 GMT\r\n\r\n"
        )
        while True:
            writer.write(b"400\r\n" + bytes(1024) + b"\r\n")
            await writer.drain()

    error = await failure_of(endless, get)

    assert type(error) is ObjectTooLarge


@pytest.mark.parametrize(
    ("status", "content_range", "body", "kind"),
    [
        (206, "bytes 0-9/100", b"0123456789", StoreError),  # another range
        (206, "bytes 5-20/100", b"0123456789012345", StoreError),  # more than was asked for
        (206, "bytes 5-8/9", b"5678", CorruptData),  # the object's end
        (200, None, b"0123456789", StoreError),  # all of it
        (416, None, b"", CorruptData),
    ],
)
async def test_a_range_that_was_not_asked_for_is_refused(
    status: int, content_range: str | None, body: bytes, kind: type[LongshoreError]
) -> None:
    fields = LAST_MODIFIED | ({"Content-Range": content_range} if content_range else {})
    into = bytearray()

    error = await failure_of(
        http_answer(status, body, fields), lambda store: store.read("a/b", 5, 10, into)
    )

    assert type(error) is kind
    assert into == b""


async def test_all_of_an_object_is_the_range_that_was_asked_for() -> None:
    async with (
        ScriptedServer([http_answer(200, b"0123456789", LAST_MODIFIED)]) as server,
        open_store(server.endpoint_url) as store,
    ):
        into = bytearray()
        await store.read("a/b", 0, 10, into)

    assert into == b"0123456789"


def page_of(item: str) -> bytes:
    text = f"<Name>b</Name><IsTruncated>false</IsTruncated><Contents>{item}</Contents>"
    return f"<ListBucketResult>{text}</ListBucketResult>".encode()


@pytest.mark.parametrize(
    "body",
    [
        b"this is not XML at all",
        b"<html><body>Please log in to the hotel network",
        b"<html><body>Welcome!</body></html>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        page_of("<Key>root/a</Key>"),
        page_of("<Key>root/a</Key><Size>x</Size>"),
        page_of("<Key>root/a</Key><Size>1</Size>"),
        page_of("<Key>root/a</Key><Size>1</Size><LastModified>yesterday</LastModified>"),
        page_of("<Size>1</Size>"),
    ],
)
async def test_a_listing_that_is_not_s3_is_an_error_not_an_end(body: bytes) -> None:
    async def go_through(store: S3Store) -> None:
        [info async for info in store.list("")]

    error = await failure_of(http_answer(200, body), go_through)

    assert isinstance(error, StoreError)
    assert "the-bucket" in str(error)


async def test_a_listing_that_goes_in_circles_is_an_error() -> None:
    page = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated>"
        b"<NextContinuationToken>again</NextContinuationToken></ListBucketResult>"
    )

    async def go_through(store: S3Store) -> None:
        [info async for info in store.list("")]

    error = await failure_of(http_answer(200, page), go_through)

    assert type(error) is StoreError


UPLOAD = Upload("a/b", "the-upload")
PART = UploadedPart(1, '"etag"')


@pytest.mark.parametrize("padding", [b"", b"   \n   "])
async def test_a_completion_that_fails_behind_a_200_fails(padding: bytes) -> None:
    body = padding + xml_error("InternalError", "We encountered an internal error.").lstrip()
    if padding:
        body = padding + body.removeprefix(b'<?xml version="1.0" encoding="UTF-8"?>\n')

    error = await failure_of(
        http_answer(200, body), lambda store: store.complete_upload(UPLOAD, [PART])
    )

    assert type(error) is StoreUnavailable


async def test_a_completion_whose_answer_was_lost_is_found_to_have_succeeded() -> None:
    async def lost(writer: asyncio.StreamWriter) -> None:
        reset(writer)

    there = http_answer(200, b"", LAST_MODIFIED, content_length=4)
    gone = http_answer(404, xml_error("NoSuchUpload"))
    for answers in ([lost, there], [gone, there]):
        part_sent = http_answer(200, b"", {"ETag": '"etag"'})
        async with (
            ScriptedServer([part_sent, *answers]) as server,
            open_store(server.endpoint_url) as store,
        ):
            part = await store.upload_part(UPLOAD, 1, 0, b"1234")
            await store.complete_upload(UPLOAD, [part])
            assert [request.method for request in server.requests] == ["PUT", "POST", "HEAD"]


@pytest.mark.parametrize(
    "looked_up",
    [http_answer(404), http_answer(200, b"", LAST_MODIFIED, content_length=5), http_answer(403)],
)
async def test_a_completion_that_failed_is_not_found_to_have_succeeded(looked_up: bytes) -> None:
    part_sent = http_answer(200, b"", {"ETag": '"etag"'})
    gone = http_answer(404, xml_error("NoSuchUpload"))
    async with (
        ScriptedServer([part_sent, gone, looked_up]) as server,
        open_store(server.endpoint_url) as store,
    ):
        part = await store.upload_part(UPLOAD, 1, 0, b"1234")
        with pytest.raises(StoreError, match="upload is gone") as caught:
            await store.complete_upload(UPLOAD, [part])
        assert not isinstance(caught.value, StoreUnavailable)


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        (["AccessDenied", "AccessDenied"], AccessDenied),
        (["AccessDenied", "InternalError"], StoreUnavailable),
        (["SlowDown", "InternalError"], StoreUnavailable),
        (["AccessDenied", "ObjectLocked"], StoreError),
    ],
)
async def test_objects_that_could_not_be_deleted_are_counted_and_the_first_is_named(
    codes: list[str], kind: type[StoreError]
) -> None:
    errors = "".join(
        f"<Error><Key>root/a/{number}</Key><Code>{code}</Code></Error>"
        for number, code in enumerate(codes)
    )
    body = f"<DeleteResult>{errors}<Error><Key>root/x</Key><Code>NoSuchKey</Code></Error>"

    error = await failure_of(
        http_answer(200, f"{body}</DeleteResult>".encode()),
        lambda store: store.delete(["a/0", "a/1", "x"]),
    )

    assert type(error) is kind
    assert "cannot delete 2 objects, the first: s3://the-bucket/root/a/0" in str(error)


async def test_a_server_without_batch_deletes_is_asked_for_each_object() -> None:
    unknown = http_answer(501, xml_error("NotImplemented"))
    async with (
        ScriptedServer([unknown, http_answer(204)]) as server,
        open_store(server.endpoint_url) as store,
    ):
        await store.delete(["a/0", "a/1"])

        assert [(request.method, request.path) for request in server.requests[1:]] == [
            ("DELETE", "/the-bucket/root/a/0"),
            ("DELETE", "/the-bucket/root/a/1"),
        ]


@pytest.fixture(scope="module")
def nobodys_certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


async def test_an_untrusted_certificate_is_not_retried(
    nobodys_certificate: tuple[Path, Path],
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*nobodys_certificate)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("the client must not get this far")

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with open_store(f"https://127.0.0.1:{port}") as store:
        with pytest.raises(StoreError, match=r"certificate .* is not trusted") as caught:
            await store.get("a/b", limit_bytes=1)
    await all_accepted()
    server.close()
    assert not isinstance(caught.value, StoreUnavailable)
    assert_fit_for_people(caught.value)


async def test_a_certificate_of_a_bundle_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = make_certificate(tmp_path, "-addext", "subjectAltName=IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http_answer(200, b"0123", LAST_MODIFIED))
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    async with open_store(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}") as store:
        assert (await store.get("a/b", limit_bytes=4)).data == b"0123"
    await all_accepted()
    server.close()


@pytest.mark.parametrize(
    ("endpoint", "proxy", "expected"),
    [
        ("http://127.0.0.1:1", None, False),  # nothing to verify, so nothing is read for it
        ("http://127.0.0.1:1", "https://proxy:1", None),
        ("https://127.0.0.1:1", None, None),
        (None, None, None),
    ],
)
def test_servers_are_verified_wherever_there_is_tls(
    endpoint: str | None,
    proxy: str | None,
    expected: bool | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)

    assert s3_connection._verify(endpoint) is expected


async def test_tls_to_a_server_without_it_is_not_retried() -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(400, b"this is a plain HTTP port"))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with open_store(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}") as store:
        with pytest.raises(StoreError, match="does not speak TLS") as caught:
            await store.get("a/b", limit_bytes=1)
    await all_accepted()
    server.close()
    assert not isinstance(caught.value, StoreUnavailable)


async def test_a_login_page_is_not_taken_for_success() -> None:
    page = http_answer(200, b"<html><body>Welcome!</body></html>")

    error = await failure_of(page, put)
    assert type(error) is StoreError
    assert "is not S3; check the endpoint" in str(error)


def unconfigured_store(**options: str | None) -> S3Store:
    return S3Store(
        bucket=options.pop("bucket", None) or "the-bucket",
        concurrency=1,
        connect_timeout=timedelta(seconds=1),
        read_timeout=timedelta(seconds=1),
        **options,  # type: ignore[arg-type]  # only those that take strings
    )


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"endpoint_url": "http://127.0.0.1:1"}, AccessDenied, "no complete credentials"),
        ({"profile": "nobody"}, AccessDenied, "nobody.*AWS_PROFILE"),
        ({"endpoint_url": "127.0.0.1:1"}, StoreError, "endpoint"),
        ({"endpoint_url": "http://"}, StoreError, "endpoint"),
    ],
)
async def test_a_wrong_configuration_is_explained(
    options: dict[str, str | None], kind: type[StoreError], message: str
) -> None:
    async with unconfigured_store(**options) as store:
        with pytest.raises(kind, match=message) as caught:
            await store.get("a/b", limit_bytes=1)
    assert type(caught.value) is kind


async def test_a_bucket_name_that_cannot_be_is_explained() -> None:
    session = AioSession()
    session.set_credentials(KEY, SECRET)
    store = S3Store(
        bucket="not a bucket",
        endpoint_url="http://127.0.0.1:1",
        concurrency=1,
        connect_timeout=timedelta(seconds=1),
        read_timeout=timedelta(seconds=1),
        session=session,
    )
    async with store:
        with pytest.raises(StoreError, match="Invalid bucket name"):
            await store.get("a/b", limit_bytes=1)


async def test_a_password_in_the_endpoint_is_not_shown() -> None:
    session = AioSession()
    session.set_credentials(KEY, SECRET)
    store = S3Store(
        bucket="the-bucket",
        endpoint_url=f"http://user:{SECRET.replace('/', '')}@127.0.0.1:1",
        concurrency=1,
        connect_timeout=timedelta(seconds=1),
        read_timeout=timedelta(seconds=1),
        session=session,
    )
    async with store:
        with pytest.raises(StoreError) as caught:
            await store.get("a/b", limit_bytes=1)
    assert SECRET.replace("/", "") not in str(caught.value)


async def test_a_refusal_tells_the_time() -> None:
    denied = http_answer(403, b"", headers(Date="Sun, 01 Nov 2026 10:00:00 GMT"))
    async with (
        ScriptedServer([denied]) as server,
        open_store(server.endpoint_url) as store,
    ):
        told = await store.now()

    begin = datetime(2026, 11, 1, 10, tzinfo=UTC)
    assert begin <= told < begin + timedelta(seconds=30)


async def test_the_time_goes_on_between_answers_and_is_asked_for_after_a_minute() -> None:
    seconds = 0.0
    answers = [stored(Date=f"Sun, 01 Nov 2026 {hour}:00:00 GMT") for hour in (10, 20)]
    async with ScriptedServer(answers) as server:
        store = open_store(server.endpoint_url)
        store._connection._elapsed = lambda: seconds
        async with store:
            await store.put("a/b", b"x")
            seconds = 59.5
            assert await store.now() == datetime(2026, 11, 1, 10, 0, 59, tzinfo=UTC)
            assert len(server.requests) == 1
            seconds = 61.5
            assert await store.now() == datetime(2026, 11, 1, 20, tzinfo=UTC)
            assert len(server.requests) == 2


async def test_the_time_of_a_proxy_does_not_count() -> None:
    old = "Sun, 01 Nov 2020 10:00:00 GMT"
    answers = [
        http_answer(502, b"", {"Date": old}),
        stored(Date=old, Age="100"),
        stored(Date="Sun, 01 Nov 2026 10:00:00 GMT"),
    ]
    async with (
        ScriptedServer(answers) as server,
        open_store(server.endpoint_url) as store,
    ):
        with pytest.raises(StoreUnavailable):
            await store.put("a/b", b"x")
        await store.put("a/b", b"x")
        await store.put("a/b", b"x")

        assert (await store.now()).year == 2026
        assert len(server.requests) == 3


async def test_a_body_is_sent_at_once_and_signed_only_where_tls_does_not_protect_it() -> None:
    async with (
        ScriptedServer([stored()]) as server,
        open_store(server.endpoint_url) as store,
    ):
        await store.put("a/b", b"hello")

    (request,) = server.requests
    assert request.path == "/the-bucket/root/a/b"
    assert request.body == b"hello"
    assert "expect" not in request.headers
    assert "x-amz-checksum-crc32" not in request.headers
    assert request.headers["x-amz-content-sha256"].startswith("2cf24dba5fb0a30e")


async def test_a_listing_tells_the_time_that_a_read_of_the_object_tells() -> None:
    listed = page_of(
        "<Key>root/a/b</Key><Size>1</Size><LastModified>2026-11-01T10:00:00.789Z</LastModified>"
    )
    async with (
        ScriptedServer([http_answer(200, listed), http_answer(200, b"x", LAST_MODIFIED)]) as server,
        open_store(server.endpoint_url) as store,
    ):
        times = [info.modified_at async for info in store.list("")]

        assert times == [(await store.get("a/b", limit_bytes=1)).modified_at]
