"""Cache directories as a registry on loopback, for the one build that is told its address.

It speaks what BuildKit asks to import a cache: manifests and blobs of the OCI distribution
specification 1.1, to be read. A reference has a token in it that nobody else knows, and what it
leads to is what the build could read in the directory.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import AsyncIterator, Collection, Mapping

from aiohttp import web

from longshore.core.digests import Digest, digest_of, is_digest
from longshore.core.layout import OCI_INDEX, write_index
from longshore.errors import LongshoreError
from longshore.ops.serving_caches import ServedCache

_TAG = "latest"
_PROBE = "probe"
_PROBE_INDEX = write_index([])
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")


class CacheRegistry:
    """A registry of caches.

    Attributes:
        port: where it listens.
        failures: the first error of each service of which a blob could not be had.
    """

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self._token = token
        self.failures: dict[str, LongshoreError] = {}
        self._by_name: dict[str, ServedCache] = {}

    def add(self, cache: ServedCache) -> None:
        """Serve a cache, too, named by its service as far as a repository can be."""
        name = f"{len(self._by_name)}-{_NOT_IN_NAMES.sub('-', cache.service.lower())}"
        self._by_name[name.rstrip("-")] = cache

    @property
    def caches(self) -> Collection[ServedCache]:
        """Those that it serves."""
        return self._by_name.values()

    @property
    def references(self) -> Mapping[str, str]:
        """What builds are told, by services."""
        return {cache.service: self._reference(name) for name, cache in self._by_name.items()}

    @property
    def probe(self) -> tuple[str, Digest]:
        """A reference, and what it means to whoever can ask here."""
        return self._reference(_PROBE), digest_of(_PROBE_INDEX)

    def routes(self) -> list[web.RouteDef]:
        """List what is answered; all else is not found."""
        name = f"/v2/{self._token}/{{name}}"
        return [
            web.get("/v2/", self._version),
            web.get(f"{name}/manifests/{{reference}}", self._manifest),
            web.get(f"{name}/blobs/{{reference}}", self._blob),
        ]

    def _reference(self, name: str) -> str:
        return f"127.0.0.1:{self.port}/{self._token}/{name}:{_TAG}"

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({})

    async def _manifest(self, request: web.Request) -> web.Response:
        name, reference = request.match_info["name"], request.match_info["reference"]
        if name == _PROBE:
            return _document(digest_of(_PROBE_INDEX), OCI_INDEX, _PROBE_INDEX)
        cache = self._by_name.get(name)
        if cache is None:
            return _not_found()
        digest = cache.latest if reference == _TAG else reference
        kind, data = cache.documents.get(Digest(digest), ("", b""))
        return _document(Digest(digest), kind, data) if kind else _not_found()

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        cache = self._by_name.get(request.match_info["name"])
        reference = request.match_info["reference"]
        if cache is None or not is_digest(reference):
            return _not_found()
        digest = Digest(reference)
        kind, data = cache.documents.get(digest, ("", b""))
        if kind:
            return _document(digest, kind, data)
        if digest not in cache.sizes:
            return _not_found()
        return await self._stream(request, cache, digest)

    async def _stream(
        self, request: web.Request, cache: ServedCache, digest: Digest
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Docker-Content-Digest": digest})
        response.content_type = "application/octet-stream"
        response.content_length = cache.sizes[digest]
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        try:
            await cache.fetch(digest)
            await response.prepare(request)
            async with contextlib.aclosing(cache.read(digest)) as blocks:
                async for block in blocks:
                    await response.write(block)
        except LongshoreError as error:
            self.failures.setdefault(cache.service, error)
            if not response.prepared:
                return _not_found()
            raise ConnectionResetError from error  # so that nobody takes it for whole
        await response.write_eof()
        return response


def _document(digest: Digest, kind: str, data: bytes) -> web.Response:
    return web.Response(body=data, content_type=kind, headers={"Docker-Content-Digest": digest})


def _not_found() -> web.Response:
    error = {"code": "MANIFEST_UNKNOWN", "message": "not served here"}
    return web.json_response({"errors": [error]}, status=404)


@contextlib.asynccontextmanager
async def cache_registry(token: str) -> AsyncIterator[CacheRegistry]:
    """Listen on a port of loopback that is free, until the build is over.

    Raises:
        OSError: there is none.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.bind(("127.0.0.1", 0))
        registry = CacheRegistry(listening.getsockname()[1], token)
        app = web.Application()
        app.add_routes(registry.routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        try:
            await web.SockSite(runner, listening).start()
            yield registry
        finally:
            await runner.cleanup()
            for cache in registry.caches:
                await cache.close()
