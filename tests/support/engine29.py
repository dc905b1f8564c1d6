"""The API of engine 29, as its documentation describes it, over a Unix socket.

For what no package provides to be run: the versions that it takes and refuses, and which fields of
its answers went (moby, `api/docs/CHANGELOG.md`, v1.44 to v1.55, and
`daemon/server/router/image/image_routes.go`). It keeps whatever is loaded as it came, and unpacks
nothing. It shares no code with longshore.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from tests.support.loop_thread import all_accepted

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_VERSIONED = re.compile(r"/v(\d+)\.(\d+)(/.*)")


@dataclass
class Held:
    """An image that the engine holds.

    Attributes:
        id: of its manifest in a containerd store, of its config in a graphdriver one.
        available: whether its blobs are there.
    """

    id: str
    diff_ids: list[str]
    history: list[tuple[str, int]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    parent: str = ""
    available: bool = True


@dataclass
class Engine29:
    """An engine, and what it was asked.

    Attributes:
        archive: what a save answers.
        load_says: the lines that answer a load.
        requests: method, API version and path of each request that was taken.
        queries: what came behind the `?`, by path.
        loaded: the bodies of loads.
    """

    version: str = "29.0.4"
    newest: tuple[int, int] = (1, 52)
    oldest: tuple[int, int] = (1, 44)
    containerd: bool = True
    images: list[Held] = field(default_factory=list)
    archive: bytes = b""
    load_says: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, tuple[int, int] | None, str]] = field(default_factory=list)
    queries: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    loaded: list[bytes] = field(default_factory=list)

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[str]:
        """Serve the API; gives the address."""
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, handle_signals=False)
        await runner.setup()
        # Not pytest's folder: the path of a socket may have 107 bytes.
        with tempfile.TemporaryDirectory(prefix="engine29-") as folder:
            path = Path(folder) / "docker.sock"
            await web.UnixSite(runner, str(path)).start()
            try:
                yield f"unix://{path}"
            finally:
                await all_accepted()
                await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path, asked = request.path, None
        if found := _VERSIONED.fullmatch(path):
            path, asked = found[3], (int(found[1]), int(found[2]))
            if not self.oldest <= asked <= self.newest:
                return _refusal(400, self._misfit(asked))
        self.requests.append((request.method, asked, path))
        self.queries[path] = list(request.query.items())
        version = asked or self.newest
        match request.method, path.strip("/").split("/"):
            case "GET", ["version"]:
                return web.json_response(self._version())
            case "GET", ["info"]:
                return web.json_response(self._info())
            case "GET", ["images", "json"]:
                return web.json_response([self._listed(image, version) for image in self.images])
            case "GET", ["images", "get"]:
                return await self._save(request)
            case "POST", ["images", "load"]:
                return await self._load(request)
            case method, ["images", *name, what] if what in ("json", "history", "tag"):
                return self._image(method, "/".join(name), what, request, version)
            case "DELETE", ["images", *name]:
                return self._remove("/".join(name))
        return _refusal(404, "page not found")

    def _image(
        self, method: str, name: str, what: str, request: web.Request, version: tuple[int, int]
    ) -> web.Response:
        image = self.find(name)
        if image is None:
            return _refusal(404, f"No such image: {name}")
        if (method, what) == ("POST", "tag"):
            tag = f"{request.query['repo']}:{request.query['tag']}"
            for other in self.images:
                other.tags = [old for old in other.tags if old != tag]
            image.tags.append(tag)
            return web.Response(status=201)
        if what == "history":
            return web.json_response(self._history(image))
        return web.json_response(self._inspected(image, version, request.query.get("manifests")))

    def find(self, name: str) -> Held | None:
        """Look an image up by tag or id."""
        return next((i for i in self.images if name == i.id or name in i.tags), None)

    def _misfit(self, asked: tuple[int, int]) -> str:
        text = "{}.{}".format(*asked)
        if asked < self.oldest:
            return (
                f"client version {text} is too old. Minimum supported API version is"
                f" {'{}.{}'.format(*self.oldest)}, please upgrade your client to a newer version"
            )
        newest = "{}.{}".format(*self.newest)
        return f"client version {text} is too new. Maximum supported API version is {newest}"

    def _version(self) -> dict[str, Any]:
        return {
            "Platform": {"Name": "Docker Engine - Community"},
            "Version": self.version,
            "ApiVersion": "{}.{}".format(*self.newest),
            "MinAPIVersion": "{}.{}".format(*self.oldest),
            "Os": "linux",
            "Arch": "amd64",
            "Components": [{"Name": "Engine", "Version": self.version, "Details": {}}],
        }

    def _info(self) -> dict[str, Any]:
        """Without `BridgeNfIptables`, `KernelMemoryTCP` and the `Expected` commits, which went."""
        snapshotter = [["driver-type", "io.containerd.snapshotter.v1"]]
        return {
            "ID": "7ee6b0a5",
            "Images": len(self.images),
            "Driver": "overlayfs" if self.containerd else "overlay2",
            "DriverStatus": snapshotter if self.containerd else [["Native Overlay Diff", "true"]],
            "OSType": "linux",
            "Architecture": "x86_64",
            "ServerVersion": self.version,
            "FirewallBackend": {"Driver": "iptables"},
            "DiscoveredDevices": [],
            "ContainerdCommit": {"ID": "fcd43222d6b07379a4be9786bda52438f0dd16a1"},
        }

    def _inspected(
        self, image: Held, version: tuple[int, int], manifests: str | None
    ) -> dict[str, Any]:
        """Without `VirtualSize`, `Container` and `ContainerConfig`; what is empty is left out."""
        found: dict[str, Any] = {
            "Id": image.id,
            "RepoTags": image.tags,
            "RepoDigests": [],
            "Created": "2026-01-02T03:04:05Z",
            "Config": {"Cmd": ["sh"]},
            "Architecture": "amd64",
            "Os": "linux",
            "Size": 12345,
            "RootFS": {"Type": "layers", "Layers": image.diff_ids},
            "Metadata": {"LastTagTime": "2026-01-02T03:04:05Z"},
        }
        if image.parent:
            found["Parent"] = image.parent
        if version < (1, 52):
            found |= {"Parent": image.parent, "Comment": "", "DockerVersion": "", "Author": ""}
        if not self.containerd:
            return found | {"GraphDriver": {"Name": "overlay2", "Data": {"MergedDir": "/merged"}}}
        if version < (1, 52):
            found["GraphDriver"] = {"Name": "overlayfs", "Data": None}
        if version >= (1, 48):
            found["Descriptor"] = _descriptor(image)
            if manifests is not None:
                found["Manifests"] = [
                    {
                        "ID": image.id,
                        "Descriptor": _descriptor(image),
                        "Available": image.available,
                        "Size": {"Content": 12345, "Total": 23456},
                        "Kind": "image",
                    }
                ]
        if version >= (1, 53):
            found["Identity"] = {}
        if not image.available:
            # No manifest for this platform: nothing is known of the config.
            for name in ("Config", "Architecture", "Os", "Created"):
                del found[name]
            found["RootFS"] = {"Type": ""}
        return found

    def _listed(self, image: Held, version: tuple[int, int]) -> dict[str, Any]:
        found: dict[str, Any] = {
            "Id": image.id,
            "ParentId": image.parent,
            "RepoTags": image.tags,
            "RepoDigests": [],
            "Created": 1767323045,
            "Size": 12345,
            "SharedSize": -1,
            "Labels": None,
            "Containers": 0,
        }
        if self.containerd and version >= (1, 48):
            found["Descriptor"] = _descriptor(image)
        return found

    def _history(self, image: Held) -> list[dict[str, Any]]:
        """Newest first; ids of parents are known where there are parents only."""
        return [
            {
                "Id": "<missing>" if number else image.id,
                "Created": 1767323045,
                "CreatedBy": command,
                "Tags": None if number else image.tags,
                "Size": size_bytes,
                "Comment": "",
            }
            for number, (command, size_bytes) in enumerate(reversed(image.history))
        ]

    async def _save(self, request: web.Request) -> web.StreamResponse:
        for name in request.query.getall("names"):
            if self.find(name) is None:
                return _refusal(404, f"No such image: {name}")
        answer = web.StreamResponse(headers={"Content-Type": "application/x-tar"})
        await answer.prepare(request)
        for start in range(0, len(self.archive), 32 << 10):  # as the engine flushes
            await answer.write(self.archive[start : start + (32 << 10)])
        return answer

    async def _load(self, request: web.Request) -> web.StreamResponse:
        self.loaded.append(await request.read())
        lines = [json.dumps(line).encode() + b"\n" for line in self.load_says]
        return web.Response(body=b"".join(lines), content_type="application/json")

    def _remove(self, name: str) -> web.Response:
        image = self.find(name)
        if image is None:
            return _refusal(404, f"No such image: {name}")
        self.images.remove(image)
        untagged = [{"Untagged": tag} for tag in image.tags]
        return web.json_response([*untagged, {"Deleted": image.id}])


def _descriptor(image: Held) -> dict[str, Any]:
    return {"mediaType": _MANIFEST, "digest": image.id, "size": 1234}


def _refusal(status: int, text: str) -> web.Response:
    return web.json_response({"message": text}, status=status)
