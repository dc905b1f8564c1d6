"""Images without a registry: a busybox base, classic builds on it, transfer to other engines."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from docker import DockerClient
from docker.errors import BuildError, ImageLoadError
from tests.support.engines import find_tool

STEP = re.compile(r"^Step \d+/\d+ : (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What the classic builder did; `FROM` is no step here, nor is an `ARG` before it."""

    image_id: str
    steps_run: int
    steps_cached: int
    log: str


def pack(
    files: Mapping[str, bytes | tuple[bytes, int]],
    *,
    links: Mapping[str, str] | None = None,
    folders: Mapping[str, int] | None = None,
) -> bytes:
    """Make a tar that depends on its arguments only: sorted, owned by root, of 1970.

    Args:
        files: contents by name, or contents and mode; the mode is 0o644 otherwise.
        links: targets of symbolic links.
        folders: their modes.
    """
    entries: list[tuple[tarfile.TarInfo, bytes]] = []
    for name, mode in (folders or {}).items():
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        entries.append((entry, b""))
    for name, content in files.items():
        data, mode = content if isinstance(content, tuple) else (content, 0o644)
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), mode
        entries.append((entry, data))
    for name, target in (links or {}).items():
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
        entries.append((entry, b""))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry, data in sorted(entries, key=lambda pair: pair[0].name):
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def busybox_tree() -> bytes:
    """Return a root file system of one static busybox with all of its applets, as a tar."""
    busybox = find_tool("busybox")
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    applets = [name for name in listed.stdout.split() if name != "busybox"]
    return pack(
        {
            "bin/busybox": (busybox.read_bytes(), 0o755),
            "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
            "etc/group": b"root:x:0:\n",
        },
        links={f"bin/{name}": "busybox" for name in applets},
        folders={"bin": 0o755, "etc": 0o755, "root": 0o700, "tmp": 0o1777},
    )


def import_busybox(client: DockerClient, tag: str = "busybox:test") -> str:
    """Make the base image of busybox, and return its id.

    The layer is the same each time, but the engine dates the image: a second import is another
    image to every build cache. Use `transfer` to have the same one on two engines.
    """
    repository, _, version = tag.rpartition(":")
    said = client.api.import_image_from_data(
        busybox_tree(), repository=repository, tag=version, changes=['CMD ["sh"]']
    )
    last = cast(dict[str, str], json.loads(said.splitlines()[-1]))
    return last["status"]


def build(
    client: DockerClient,
    dockerfile: str,
    files: Mapping[str, bytes] | None = None,
    *,
    tag: str,
    cache_from: Sequence[str] | None = None,
    network: str = "none",
    rm: bool = True,
    buildargs: Mapping[str, str] | None = None,
    target: str | None = None,
) -> BuildResult:
    """Build an image with the classic builder, which is what the API uses on every engine.

    Raises:
        BuildError: the engine said that the build failed; its `build_log` holds the messages.
    """
    context = pack({"Dockerfile": dockerfile.encode(), **(files or {})})
    # The stubs know neither streams of messages nor that an absent target is None.
    options: dict[str, Any] = {"target": target} if target else {}
    messages = list(
        client.api.build(
            fileobj=io.BytesIO(context),
            custom_context=True,
            decode=True,
            tag=tag,
            cache_from=list(cache_from or []),
            network_mode=network,
            rm=rm,
            forcerm=rm,
            buildargs=dict(buildargs or {}),
            **options,
        )
    )
    return _read_build(cast(list[dict[str, Any]], messages))


def _read_build(messages: Iterable[dict[str, Any]]) -> BuildResult:
    messages = list(messages)
    log = "".join(str(message.get("stream", "")) for message in messages)
    image_id = ""
    for message in messages:
        if "error" in message:
            raise BuildError(str(message["error"]), iter(messages))
        image_id = message.get("aux", {}).get("ID", image_id)
    # An alternation of instruction and what follows it, after whatever precedes the first step.
    pieces = STEP.split(log)[1:]
    ran = cached = 0
    for instruction, output in zip(pieces[::2], pieces[1::2], strict=True):
        if "---> Using cache" in output:
            cached += 1
        elif instruction.upper() != "FROM" and "--->" in output:
            ran += 1
    return BuildResult(image_id, ran, cached, log)


def history_ids(client: DockerClient, image: str) -> list[str]:
    """List the ids of an image and its parents, newest first; `<missing>` where none is known."""
    api: Any = client.api  # the stubs leave these methods untyped
    layers: list[dict[str, Any]] = api.history(image)
    return [str(layer["Id"]) for layer in layers]


def transfer(src: DockerClient, dst: DockerClient, ref: str) -> str:
    """Carry an image to another engine by save and load, and return its id there.

    Raises:
        ImageLoadError: the other engine refused it.
    """
    to: Any = dst.api
    for message in to.load_image(src.api.get_image(ref), quiet=False):
        if "errorDetail" in message:
            raise ImageLoadError(message["errorDetail"]["message"])
    return str(to.inspect_image(ref)["Id"])
