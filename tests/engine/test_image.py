"""Longshore's own image: built by the real Dockerfile, and run as its users run it.

The base and the wheels are this machine's own (`tests.support.image_base`), so what is said here of
what the image lacks is said of what the Dockerfile does.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engine_fixtures import prepare_engine
from tests.support import builds, images
from tests.support.engines import ThrowawayEngine
from tests.support.image_base import ROOT, WheelsUnavailable, find_wheels, import_python, served

from longshore import __version__

pytestmark = pytest.mark.engine

IMAGE = "longshore:buildkit"
PAGE = (ROOT / "docs/operations.md").read_text()
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")

# Python of the image: all that longshore imports, less what it is started by.
IMPORT_ALL = """
import importlib, pkgutil, longshore
for module in pkgutil.walk_packages(longshore.__path__, "longshore."):
    importlib.import_module(module.name)
"""
COMPILED = f"""
import os, sys, multiprocessing.forkserver
{IMPORT_ALL}
files = [(m.__file__, m.__cached__) for m in sys.modules.values() if getattr(m, "__cached__", "")]
assert len(files) > 500, len(files)
print(*(file for file, cached in files if not os.path.exists(cached)))
"""
# What a forkserver and temporary files write, and nothing else can be written.
WRITES = """
import multiprocessing, os, tempfile
if __name__ == "__main__":
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        print(pool.apply(os.getuid), os.getgid())
    with open("/run/longshore/made", "w"):
        print(os.path.exists("/run/longshore/made"))
    for folder in ("/", "/tmp", "/project", "/home/longshore", "/opt/longshore"):
        print(os.access(folder, os.W_OK))
"""
# Endpoints are found by the descriptions of services, so a URL takes all that a request takes.
CLIENTS = """
import asyncio, boto3, aiobotocore.session
session = boto3.Session("key", "secret", region_name="eu-west-1")
for service in ("sso", "sso-oidc", "signin"):
    session.client(service)
print(session.client("sts").generate_presigned_url("get_caller_identity").split("?")[0])
arguments = {"Params": {"Bucket": "images", "Key": "k", "ServerSideEncryption": "aws:kms"}}
client = session.client("s3")
print(client.generate_presigned_url("put_object", **arguments).split("?")[0])

async def ask():
    keys = dict(aws_access_key_id="key", aws_secret_access_key="secret", region_name="eu-west-1")
    made = aiobotocore.session.get_session().create_client("s3", **keys)
    async with made as client:
        print((await client.generate_presigned_url("put_object", **arguments)).split("?")[0])

asyncio.run(ask())
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[ThrowawayEngine]:
    """An engine with the image, as BuildKit makes it, and its first stage."""
    try:
        wheels = find_wheels()
    except WheelsUnavailable as unavailable:
        if os.environ.get("LONGSHORE_REQUIRE_ENGINES") == "1":
            pytest.fail(f"LONGSHORE_REQUIRE_ENGINES=1, but {unavailable}", pytrace=False)
        pytest.skip(str(unavailable))
    with prepare_engine(in_memory=True) as engine:
        import_python(engine.api, "base:1")
        with served(wheels) as url:
            given = {
                "BASE": "base:1",
                "PIP_FIND_LINKS": url,
                "PIP_NO_INDEX": "1",
                "REVISION": "abc",
            }
            arguments = [word for one in given.items() for word in ("--build-arg", "=".join(one))]
            for tag, only in ((IMAGE, []), ("built:1", ["--target=build"])):
                words = [*arguments, "--network=host", f"--tag={tag}", *only, "."]
                builds.build(engine, "BuildKit", ROOT, words)
        yield engine


def docker(engine: ThrowawayEngine, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *words],
        env=engine.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def run(engine: ThrowawayEngine, *words: str) -> str:
    """Run a container to its end, which must be a good one, and return what it said."""
    done = docker(engine, "run", "--rm", "--network=none", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(engine: ThrowawayEngine, code: str) -> list[str]:
    return run(engine, *HARDENED, "--entrypoint=python", IMAGE, "-c", code).split()


def config(engine: ThrowawayEngine, image: str = IMAGE) -> dict[str, Any]:
    found: dict[str, Any] = engine.api.images.get(image).attrs["Config"]
    # One builder leaves out what is empty, and the other does not.
    return {name: value for name, value in found.items() if value and name != "Image"}


def test_the_image_says_who_made_it_and_how_it_runs(engine: ThrowawayEngine) -> None:
    found = config(engine)

    assert found["User"] == "10001:10001"
    assert found["Entrypoint"] == ["longshore"]  # no shell in between, so signals arrive
    assert "Cmd" not in found
    assert found["WorkingDir"] == "/project"
    assert found["Volumes"] == {"/run/longshore": {}}
    assert found["Healthcheck"]["Test"][0] == "CMD-SHELL"
    labels = {
        name.removeprefix("org.opencontainers.image."): x for name, x in found["Labels"].items()
    }
    assert labels.pop("title") == "longshore"
    assert labels.pop("description")
    assert labels == {
        "licenses": "Apache-2.0",
        "version": __version__,
        "revision": "abc",
        "base.name": "base:1",
    }


def test_the_image_runs_with_a_read_only_root_and_no_rights(engine: ThrowawayEngine) -> None:
    assert run(engine, *HARDENED, IMAGE, "--version") == f"longshore {__version__}\n"
    assert python(engine, WRITES) == ["10001", "10001", "True", *["False"] * 5]


def test_nothing_in_the_image_compiles_or_installs(engine: ThrowawayEngine) -> None:
    tools = "gcc cc c++ ld as make pip pip3 uv hatchling"
    script = f"for x in {tools}; do command -v $x; done; command -v longshore"
    assert run(engine, "--entrypoint=sh", IMAGE, "-c", script) == "/opt/longshore/bin/longshore\n"
    find = 'import importlib.util as i; print(*map(i.find_spec, ["pip", "ensurepip", "hatchling"]))'
    assert python(engine, find) == ["None"] * 3
    base = "for x in /usr/local/bin/python /usr/bin/python3; do $x -m pip --version; done"
    done = docker(engine, "run", "--rm", "--network=none", "--entrypoint=sh", IMAGE, "-c", base)
    assert (done.returncode != 0, done.stdout) == (True, "")


def test_no_start_compiles_anything(engine: ThrowawayEngine) -> None:
    assert python(engine, COMPILED) == []


def test_clients_of_all_services_in_use_can_be_made(engine: ThrowawayEngine) -> None:
    assert python(engine, CLIENTS) == [
        "https://sts.eu-west-1.amazonaws.com/",
        *["https://images.s3.amazonaws.com/k"] * 2,
    ]


def test_an_image_is_exported_and_imported_through_the_mounted_socket(
    engine: ThrowawayEngine, tmp_path: Path
) -> None:
    images.import_busybox(engine.api, "busybox:1")
    images.build(engine.api, "FROM busybox:1\nRUN echo one > /one\n", tag="shop-web:latest")
    before = engine.api.images.get("shop-web:latest").id
    for name in ("project", "store"):
        (tmp_path / name).mkdir()
    shutil.chown(tmp_path / "store", 10001, 10001)
    (tmp_path / "project/compose.yaml").write_text(
        "name: shop\nservices:\n  web:\n    build: .\n    x-longshore: {cached: true}\n"
    )
    socket_file = engine.root / "docker.sock"
    mounted = (
        *HARDENED,
        *("-v", f"{tmp_path}/project:/project:ro", "-v", f"{tmp_path}/store:/store"),
        *("-v", f"{socket_file}:/var/run/docker.sock"),
        *("--group-add", str(socket_file.stat().st_gid)),
        *("-e", "LONGSHORE_STORE=file:///store", "-e", "LONGSHORE_SCOPE=main", IMAGE),
    )

    run(engine, *mounted, "export", "--strict")
    engine.api.images.remove("shop-web:latest", force=True)
    said = run(engine, *mounted, "import", "--strict")

    assert "web: hit from scope main" in said
    assert engine.api.images.get("shop-web:latest").id == before
    assert from_crontab(engine, tmp_path / "store") == (0, "", "")


def from_crontab(engine: ThrowawayEngine, store: Path) -> tuple[int, str, str]:
    """Run what the documentation has for a crontab, with a store of ours."""
    line = re.search(r"^17 \*/6 \* \* \*  (docker run .*)$", PAGE, re.MULTILINE)
    assert line is not None
    ours = f"--network=none -v {store}:/store -e LONGSHORE_STORE=file:///store longshore:buildkit"
    command = line[1].replace("--env-file /etc/longshore/env longshore", ours)
    assert ours in command
    done = subprocess.run(
        ["sh", "-c", command], env=engine.environment(), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def mute(tmp_path: Path) -> Iterator[socket.socket]:
    """An engine that lets everybody connect, and never answers."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "docker.sock"))
        (tmp_path / "docker.sock").chmod(0o777)
        listening.listen()
        listening.settimeout(60)
        yield listening


def test_a_stop_reaches_longshore_which_ends_at_once(
    engine: ThrowawayEngine, mute: socket.socket
) -> None:
    socket_file = mute.getsockname()
    words = ["--detach", "--network=none", *HARDENED, "-v", f"{socket_file}:/var/run/docker.sock"]
    started = docker(engine, "run", *words, IMAGE, "doctor")
    container = started.stdout.strip()
    assert container, started.stderr
    connection, _ = mute.accept()  # longshore asks, and waits for the answer
    before = time.monotonic()

    docker(engine, "stop", container)

    took = time.monotonic() - before
    connection.close()
    state = engine.api.containers.get(container).attrs["State"]
    docker(engine, "rm", "--volumes", container)
    assert (state["ExitCode"], state["OOMKilled"]) == (143, False)
    assert took < 8  # the engine would kill it after ten seconds


def test_a_command_is_healthy_and_a_sidecar_only_if_it_answers(engine: ThrowawayEngine) -> None:
    check = config(engine)["Healthcheck"]["Test"][1]
    checked = ("run", "--rm", "--network=none", *HARDENED, "--entrypoint=sh", IMAGE, "-c", check)

    assert docker(engine, *checked, "prune").returncode == 0
    assert docker(engine, *checked, "serve").returncode == 1


def test_a_sidecar_with_a_read_only_root_answers_its_check_and_stops(
    engine: ThrowawayEngine,
) -> None:
    check = config(engine)["Healthcheck"]["Test"][1]
    socket_file = engine.root / "docker.sock"
    words = (
        *("run", "--detach", "--network=none", *HARDENED),
        *("-v", f"{socket_file}:/var/run/docker.sock"),
        *("--group-add", str(socket_file.stat().st_gid)),
        *("-e", "LONGSHORE_STORE=file:///dev/shm", "-e", "LONGSHORE_SCOPE=main", IMAGE),
        *("serve", "--image=web=web:1", "--project=shop"),
    )
    container = docker(engine, *words).stdout.strip()
    try:
        waited = docker(engine, "exec", container, "longshore", "wait", "--timeout", "30s")
        checked = docker(engine, "exec", container, "sh", "-c", check)
        docker(engine, "stop", container)
        state = engine.api.containers.get(container).attrs["State"]
    finally:
        docker(engine, "rm", "--force", "--volumes", container)
    assert (waited.returncode, waited.stderr) == (0, "")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert state["ExitCode"] != 137  # which is what a kill leaves


def test_the_classic_builder_makes_the_same_image(engine: ThrowawayEngine, tmp_path: Path) -> None:
    """Only the last stage: the first one takes longest, and nothing in it is read in two ways."""
    text = (ROOT / "Dockerfile").read_text()
    head, _, last = text.rpartition("\nFROM ")
    default = next(line for line in head.splitlines() if line.startswith("ARG BASE="))
    (tmp_path / "Dockerfile").write_text(
        f"{default}\nFROM {last.replace('--from=build', '--from=built:1')}"
    )
    words = ["--build-arg=BASE=base:1", "--build-arg=REVISION=abc", "--network=none"]

    builds.build(engine, "classic", tmp_path, [*words, "--tag=longshore:classic", "."])

    assert config(engine, "longshore:classic") == config(engine)
    shown = run(engine, *HARDENED, "longshore:classic", "--version")
    assert shown == f"longshore {__version__}\n"
