"""The Docker engine, through the Docker SDK; the only module that imports it.

The SDK finds the engine (environment, context, TLS) and does the control calls; save and load run
over `Exchange`, in threads. Facts of engine behaviour are from moby's sources, versions 20.10 to
29; `docs/architecture.md`, "What engines do", has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import docker
import docker.errors
import docker.utils
import requests.exceptions

from longshore.core.digests import Digest, is_digest, parse_digest
from longshore.core.images import Step
from longshore.engine.connection import Address, Exchange, without_password
from longshore.engine.contract import Engine, EngineImage, EngineInfo, ImageEvent
from longshore.engine.image_events import QUERY, parse_event
from longshore.errors import CorruptData, EngineError, EngineUnavailable, LayerVanished

BLOCK_BYTES = 4 << 20
_CONTROL_SECONDS = 60
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64-v8",
    "arm64": "arm64-v8",
    "armv7l": "arm-v7",
    "armv6l": "arm-v6",
    "i686": "386",
    "i386": "386",
}
# A layer that is listed, was not sent, and is not there any more: a graphdriver store looks for it
# in the spool folder of the load, a containerd store among its contents.
_VANISHED = re.compile(r"docker-import-.*no such file or directory|content digest .*: not found")
_MANIFESTS_SINCE = (1, 48)  # API: inspect tells which manifests are there, docs/api/CHANGELOG

T = TypeVar("T")


class DockerEngine(Engine):
    """The engine that the environment names, as the `docker` command would find it.

    Args:
        host: `unix://…` or `tcp://…`, instead of what the environment says.
    """

    def __init__(self, host: str | None = None) -> None:
        self._host = host
        self._client: docker.DockerClient | None = None
        self._connecting = asyncio.Lock()

    async def info(self) -> EngineInfo:
        """Ask what the engine is."""
        return await self._call(self._info)

    async def inspect(self, name: str) -> EngineImage | None:
        """Look up an image by reference or id; `None` if the engine has none of that name."""

        def inspect(client: docker.DockerClient) -> EngineImage | None:
            api = client.api
            # The SDK's own call cannot ask for manifests; an engine without them ignores it.
            asked = {"manifests": "1"} if _api_numbers(api) >= _MANIFESTS_SINCE else None
            answer = api.get(
                f"{api.base_url}/v{api.api_version}/images/{quote(name, safe=':/@')}/json",
                params=asked,
                timeout=_CONTROL_SECONDS,
            )
            if answer.status_code == HTTPStatus.NOT_FOUND:
                return None
            try:
                answer.raise_for_status()
            except requests.exceptions.HTTPError as error:
                raise docker.errors.create_api_error_from_http_exception(error) from error
            return _image(answer.json())

        return await self._call(inspect)

    async def history(self, name: str) -> tuple[Step, ...]:
        """List what the build steps of an image did, base first."""

        def history(client: docker.DockerClient) -> tuple[Step, ...]:
            return tuple(
                Step(
                    created_by=item.get("CreatedBy") or "",
                    comment=item.get("Comment") or "",
                    empty_layer=not item.get("Size"),
                )
                for item in reversed(client.api.history(name))  # type: ignore[no-untyped-call]
            )

        return await self._call(history)

    async def image_ids(self) -> frozenset[Digest]:
        """List the ids of all images, intermediate ones included."""

        def ids(client: docker.DockerClient) -> frozenset[Digest]:
            return frozenset(
                Digest(text) for text in client.api.images(quiet=True, all=True) if is_digest(text)
            )

        return await self._call(ids)

    async def save(self, ids: Sequence[Digest]) -> AsyncGenerator[bytes, None]:
        """Stream the archive of images, in blocks of a few MiB."""
        exchange = Exchange(await self._address())
        try:
            path = f"/v{await self._api_version()}/images/get"
            await _in_thread(
                exchange, exchange.begin, "GET", path, {"names": list(ids)}, body=False
            )
            await _in_thread(exchange, exchange.answer)
            while block := await _in_thread(exchange, exchange.read_block, BLOCK_BYTES):
                yield block
        finally:
            exchange.dispose()

    async def load(
        self, archive: AsyncIterator[bytes], progress: Callable[[int], None] | None = None
    ) -> None:
        """Load an archive."""
        exchange = Exchange(await self._address())
        try:
            path = f"/v{await self._api_version()}/images/load"
            await _in_thread(exchange, exchange.begin, "POST", path, {"quiet": "0"}, body=True)
            try:
                async for block in archive:
                    await _in_thread(exchange, exchange.write, block)
                await _in_thread(exchange, exchange.end_body)
            except EngineError as error:
                # It may have answered before it broke off: a full disk ends a load early.
                with contextlib.suppress(EngineError):
                    await _in_thread(exchange, _read_report, exchange, lambda _: None)
                    raise error
                raise
            loop = asyncio.get_running_loop()

            def tell(unpacked_bytes: int) -> None:
                if progress is not None:
                    loop.call_soon_threadsafe(progress, unpacked_bytes)

            await _in_thread(exchange, _read_report, exchange, tell)
        finally:
            exchange.dispose()

    async def tag(self, image_id: Digest, tag: str) -> None:
        """Give an image a tag, taking it from the image that has it."""
        repository, _, name = tag.rpartition(":")
        await self._call(lambda client: client.api.tag(image_id, repository, name, force=True))

    async def remove(self, image_id: Digest) -> None:
        """Remove an image, not its parents. One that is not there counts as removed."""

        def remove(client: docker.DockerClient) -> None:
            with contextlib.suppress(docker.errors.NotFound):
                client.api.remove_image(image_id, noprune=True)

        await self._call(remove)

    async def look_up(self, reference: str) -> Digest | None:
        """Have the engine ask a registry what a reference means; `None` if it gets no answer."""

        def look_up(client: docker.DockerClient) -> Digest | None:
            try:
                found = client.api.inspect_distribution(reference)  # type: ignore[no-untyped-call]
            except docker.errors.APIError:
                return None
            digest = str((found.get("Descriptor") or {}).get("digest"))
            return Digest(digest) if is_digest(digest) else None

        return await self._call(look_up)

    async def events(self) -> AsyncGenerator[ImageEvent | None, None]:
        """Tell what happens to images from now on: first `None`, when the engine listens."""
        address = await self._address()
        exchange = Exchange(address)
        try:
            path = f"/v{await self._api_version()}/events"
            await _in_thread(exchange, exchange.begin, "GET", path, QUERY, body=False)
            await _in_thread(exchange, exchange.answer)
            yield None
            lines = exchange.lines()
            while (line := await _in_thread(exchange, next, lines, None)) is not None:
                if (event := parse_event(line)) is not None:
                    yield event
        finally:
            exchange.dispose()
        raise EngineUnavailable(
            f"the Docker engine at {without_password(address.url)} tells no events any more;"
            " is it being restarted?"
        )

    async def close(self) -> None:
        """Release connections."""
        if self._client is not None:
            await asyncio.to_thread(self._client.close)
            self._client = None

    async def _connect(self) -> docker.DockerClient:
        async with self._connecting:
            if self._client is None:
                self._client = await asyncio.to_thread(self._open)
            return self._client

    def _open(self) -> docker.DockerClient:
        with _translated(self._host or os.environ.get("DOCKER_HOST") or "its default address"):
            if self._host is not None:
                return docker.DockerClient(self._host, version="auto", timeout=_CONTROL_SECONDS)
            return docker.from_env(version="auto", timeout=_CONTROL_SECONDS)

    async def _call(self, call: Callable[[docker.DockerClient], T]) -> T:
        client = await self._connect()

        def run() -> T:
            with _translated(_url(client)):
                return call(client)

        return await asyncio.to_thread(run)

    async def _address(self) -> Address:
        client = await self._connect()
        url = _url(client)
        if not url.startswith(("unix://", "tcp://")):
            raise EngineUnavailable(
                f"the Docker engine at {without_password(url)} is reached over a transport that"
                " longshore does not speak; forward its socket and set DOCKER_HOST=unix://… or tcp://…"
            )
        tls: ssl.SSLContext | None = None
        if client.api.base_url.startswith("https://"):
            verify, cert = client.api.verify, client.api.cert
            with _translated(url):
                tls = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
                if verify is False:
                    tls.check_hostname = False
                    tls.verify_mode = ssl.CERT_NONE
                if cert:
                    tls.load_cert_chain(*(cert if isinstance(cert, tuple) else (cert,)))
        return Address(url, tls)

    async def _api_version(self) -> str:
        return str((await self._connect()).api.api_version)

    def _info(self, client: docker.DockerClient) -> EngineInfo:
        version, info = client.api.version(), client.api.info()
        machine = str(info.get("Architecture") or version.get("Arch") or "unknown").lower()
        system = str(info.get("OSType") or version.get("Os") or "linux").lower()
        status = [tuple(pair) for pair in info.get("DriverStatus") or []]
        snapshotter = ("driver-type", "io.containerd.snapshotter.v1") in status
        return EngineInfo(
            version=str(version.get("Version", "unknown")),
            api_version=str(client.api.api_version),
            image_store="containerd" if snapshotter else "graphdriver",
            platform=f"{system}-{_ARCHITECTURES.get(machine, machine)}",
            storage_driver=str(info.get("Driver", "unknown")),
            address=without_password(_url(client)),
            data_root=str(info["DockerRootDir"]) if info.get("DockerRootDir") else None,
            native_diff=("Native Overlay Diff", "false") not in status,
        )


async def _in_thread(
    exchange: Exchange, call: Callable[..., T], *arguments: Any, **options: Any
) -> T:
    """Run a blocking call; when it is cancelled, wake it up, so that no thread is left behind."""
    work = asyncio.get_running_loop().run_in_executor(None, lambda: call(*arguments, **options))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        exchange.abort()
        with contextlib.suppress(Exception):
            await work
        raise


def _read_report(exchange: Exchange, unpacked: Callable[[int], None]) -> None:
    exchange.answer()
    current: dict[str, int] = {}
    for line in exchange.lines():
        detail = line.get("errorDetail")
        message = detail.get("message") if isinstance(detail, dict) else line.get("error")
        text = str(line.get("stream") or line.get("status") or "")
        if message is None and "Error unpacking image" in text:
            message = text  # a containerd store says so in passing, and reports success
        if message is not None:
            message = " ".join(str(message).split())
            if _VANISHED.search(message):
                raise LayerVanished(f"the Docker engine lost a layer during the load: {message}")
            raise EngineError(f"the Docker engine could not load the images: {message}")
        done = line.get("progressDetail")
        if isinstance(done, dict) and isinstance(done.get("current"), int):
            layer = str(line.get("id"))
            before, current[layer] = current.get(layer, 0), done["current"]
            unpacked(max(0, done["current"] - before))


def _image(found: dict[str, Any]) -> EngineImage:
    layers = (found.get("RootFS") or {}).get("Layers") or []
    try:
        return EngineImage(
            id=parse_digest(found["Id"]),
            # A containerd store lists names by digest among the tags.
            tags=tuple(sorted(tag for tag in found.get("RepoTags") or () if "@" not in tag)),
            parent=parse_digest(found["Parent"]) if found.get("Parent") else None,
            diff_ids=tuple(parse_digest(layer) for layer in layers),
            size_bytes=int(found.get("Size") or 0),
            complete=_is_complete(found.get("Manifests") or ()),
        )
    except (CorruptData, KeyError, TypeError) as error:
        raise EngineError(f"the Docker engine described an image oddly: {error}") from error


def _is_complete(manifests: Iterable[dict[str, Any]]) -> bool:
    """Tell whether one of the platforms of an image is there; others may not have been pulled."""
    there = [m.get("Available") for m in manifests if m.get("Kind") == "image"]
    return any(there) if there else True


def _api_numbers(api: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in str(api.api_version).split(".") if part.isdigit())


def _url(client: docker.DockerClient) -> str:
    base = str(client.api.base_url)
    if base.startswith("http+docker://localhost"):  # the SDK's name for a unix socket
        adapter = client.api.get_adapter(base)
        return f"unix://{getattr(adapter, 'socket_path', '/var/run/docker.sock')}"
    return re.sub(r"^https?://", "tcp://", base)


@contextlib.contextmanager
def _translated(address: str) -> Iterator[None]:
    address = without_password(address)
    try:
        yield
    except docker.errors.APIError as error:
        text = " ".join(str(error.explanation or error).split())
        raise EngineError(f"the Docker engine refused: {text}") from error
    except docker.errors.TLSParameterError as error:
        raise EngineUnavailable(f"the Docker TLS settings do not work: {error}") from error
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        cause = without_password(" ".join(str(error).split()))[:300]
        raise EngineUnavailable(
            f"the Docker engine at {address} cannot be reached ({cause});"
            " is it running, and is DOCKER_HOST right?"
        ) from error
    except (OSError, ssl.SSLError) as error:
        raise EngineUnavailable(
            f"the Docker engine at {address} cannot be reached ({error})"
        ) from error
