"""The connection to an S3 server: one client, one seam for its failures, and its clock.

The only module that makes an aiobotocore client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from botocore.handlers import add_expect_header
from botocore.utils import get_environ_proxies

from longshore.core.foreign_words import secrets_of
from longshore.errors import AccessDenied
from longshore.store import s3_credentials
from longshore.store.contract import Guard
from longshore.store.encryption import Encryption, check_way
from longshore.store.s3_credentials import CredentialsFailed
from longshore.store.s3_errors import S3_FAILURES, Request, is_aws, translate
from longshore.store.s3_session import USER_AGENT, new_session

_BODY_READ_BYTES = 1024 * 1024

# Of the request that the task is about to send. A signed request that is sent a quarter of an hour
# late is refused by the server (RequestTimeTooSkewed), so after signing is late enough.
_guard: ContextVar[Guard | None] = ContextVar("guard", default=None)

# aiohttp has no timeout for a body that the server does not take, nor for an answer that trickles,
# so every request also has an end: its read timeout, and the time its bytes take at this speed.
_SLOWEST_BYTES_PER_SECOND = 16 * 1024
_PATIENCE = timedelta(minutes=1)
_SECRETS_KEPT = 1024  # a signature for each request, and hundreds may be on their way


async def find_credentials(profile: str | None = None) -> tuple[str, datetime | None] | None:
    """Tell who provides credentials, and when they expire; `None` if nobody does.

    Raises:
        AccessDenied: a provider was found, and has none to give.
    """
    try:
        session = new_session(profile)
        credentials = await s3_credentials.find(session, patience=_PATIENCE)
        if credentials is None:
            return None
        await credentials.get_frozen_credentials()  # some are fetched only now
    except (CredentialsFailed, *S3_FAILURES) as error:
        request = Request("use", "the store", "", "")
        raise AccessDenied(str(translate(error, request))) from error
    return str(credentials.method), getattr(credentials, "_expiry_time", None)


class S3Connection:
    """A client that is made when it is first needed. See `S3Store` for the arguments."""

    def __init__(
        self,
        *,
        endpoint_url: str | None,
        region: str | None,
        profile: str | None,
        concurrency: int,
        connect_timeout: timedelta,
        read_timeout: timedelta,
        encryption: Encryption,
        session: Any,
        elapsed: Callable[[], float],
    ) -> None:
        self._endpoint_url = endpoint_url
        self._region = region
        self._profile = profile
        self._concurrency = concurrency
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._encryption = encryption
        self._session = session
        self._elapsed = elapsed
        self._client: Any = None
        self._opening = asyncio.Lock()
        self._open = AsyncExitStack()
        self._closed = False
        self._date: tuple[datetime, float] | None = None
        self._secrets: dict[str, None] = {}

    async def call(
        self, operation: str, request: Request, *, size_bytes: int = 0, **arguments: Any
    ) -> dict[str, Any]:
        """Send one request and wait for its answer, but not for the body of a download.

        Args:
            size_bytes: of the body that is sent.
        """
        with self.translated(request):
            async with asyncio.timeout(self._longest(size_bytes)):
                client = await self._connected()
                response: dict[str, Any] = await getattr(client, operation)(
                    Bucket=request.bucket, **arguments
                )
        self._note_date(response)
        return response

    async def receive(self, body: Any, request: Request, into: bytearray, limit_bytes: int) -> None:
        """Append a body to `into` until it ends or `into` holds `limit_bytes`."""
        with self.translated(request):
            async with asyncio.timeout(self._longest(limit_bytes - len(into))):
                while wanted := min(limit_bytes - len(into), _BODY_READ_BYTES):
                    piece = await body.read(wanted)
                    if not piece:
                        return
                    into += piece

    @contextmanager
    def guarded(self, guard: Guard | None) -> Iterator[None]:
        """Have a guard asked before each request, when it has been signed and is about to leave."""
        token = _guard.set(guard)
        try:
            yield
        finally:
            _guard.reset(token)

    @contextmanager
    def translated(self, request: Request) -> Iterator[None]:
        """Let every failure out as one of longshore's errors."""
        try:
            yield
        except (CredentialsFailed, *S3_FAILURES) as error:
            self._note_date(getattr(error, "response", None))
            raise translate(error, request, self._secrets) from error

    def time(self, *, stale_after: timedelta) -> datetime | None:
        """Tell the server's time by its newest answer; `None` if there is none, or an old one."""
        if self._date is None:
            return None
        date, seen_at = self._date
        passed = timedelta(seconds=int(self._elapsed() - seen_at))
        return date + passed if passed <= stale_after else None

    async def close(self) -> None:
        self._closed = True
        async with self._opening:
            self._client = None
            await self._open.aclose()

    async def _connected(self) -> Any:
        async with self._opening:
            if self._closed:
                raise RuntimeError("the store is closed")
            if self._client is None:
                plain = _is_plain(self._endpoint_url)
                client = await self._new_client(sign_bodies=plain)
                if not plain and not client.meta.endpoint_url.startswith("https:"):
                    # The AWS configuration or environment names an endpoint.
                    client = await self._new_client(sign_bodies=True)
                check_way(self._encryption, client.meta.endpoint_url)
                self._client = client
            return self._client

    async def _new_client(self, *, sign_bodies: bool) -> Any:
        s3_options: dict[str, object] = {}
        if not sign_bodies:
            # TLS protects the way, and chunks and documents carry digests of their own.
            s3_options["payload_signing_enabled"] = False
        if not is_aws(self._endpoint_url):
            s3_options["addressing_style"] = "path"
        config = AioConfig(
            connect_timeout=self._connect_timeout.total_seconds(),
            read_timeout=self._read_timeout.total_seconds(),
            max_pool_connections=self._concurrency,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"total_max_attempts": 1, "mode": "standard"},
            s3=s3_options,
            user_agent=USER_AGENT,
        )
        session = self._session or new_session(self._profile)
        await s3_credentials.find(session, patience=self._read_timeout)
        client = await self._open.enter_async_context(
            session.create_client(
                "s3",
                region_name=self._region,
                endpoint_url=self._endpoint_url,
                config=config,
                verify=_verify(self._endpoint_url),
            )
        )
        # Bodies are BytesIO, which aiohttp sends in pieces (bytes would block the event loop), and
        # for which botocore expects a `100 Continue`. A server that never sends one would be waited
        # for without a timeout.
        client.meta.events.unregister("before-call.s3", add_expect_header)
        client.meta.events.register("before-send.s3", self._note_secrets)
        client.meta.events.register("before-send.s3", _ask_guard)
        if self._endpoint_url is not None:
            client.meta.events.register("before-call.s3", _stay_here)
        return client

    def _note_secrets(self, request: Any, **_: Any) -> None:
        """Remember what an answer must not quote into a message."""
        for secret in secrets_of(request.headers):
            self._secrets.pop(secret, None)
            self._secrets[secret] = None  # the newest last
        while len(self._secrets) > _SECRETS_KEPT:
            del self._secrets[next(iter(self._secrets))]

    def _longest(self, size_bytes: int) -> float:
        pauses = self._connect_timeout + 2 * self._read_timeout
        return pauses.total_seconds() + size_bytes / _SLOWEST_BYTES_PER_SECOND

    def _note_date(self, response: Any) -> None:
        metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        headers = metadata.get("HTTPHeaders", {})
        # A proxy's own error has the proxy's date, and a cached answer has an old one.
        if metadata.get("HTTPStatusCode", 500) >= 500 or "age" in headers:
            return
        with suppress(ValueError):
            date = parsedate_to_datetime(headers.get("date", ""))
            self._date = (date.replace(tzinfo=date.tzinfo or UTC).astimezone(UTC), self._elapsed())


def _is_plain(endpoint_url: str | None) -> bool:
    return urlsplit(endpoint_url or "").scheme == "http"


def _verify(endpoint_url: str | None) -> bool | None:
    """Tell the SDK not to read the machine's certificates if there is nothing to verify.

    Without TLS it would read them all the same, which takes as long as ten requests. A proxy may
    be reached over TLS.
    """
    if not _is_plain(endpoint_url) or get_environ_proxies(endpoint_url):
        return None
    return False


def _ask_guard(**_: Any) -> None:
    guard = _guard.get()
    if guard is not None:
        guard()


def _stay_here(params: Any, **_: Any) -> None:
    """Keep botocore from looking for the bucket in another region, which an endpoint rules out.

    It asks the endpoint for the region; one that answers 301 to everything is asked for ever.
    """
    params["context"].setdefault("s3_redirect", {})["redirected"] = True
