"""`longshore build` with caches that the build fetches itself, from a registry on loopback."""

from __future__ import annotations

import pytest
from tests.cli.conftest import Shell
from tests.ops.tiny_engine import TinyEngine
from tests.support.cache_directories import write_cache
from tests.support.fake_docker import FakeDocker

from longshore.core.digests import digest_of
from longshore.core.layout import OCI_INDEX

COMPOSE = """
name: shop
services:
  Web_1:
    build: .
    image: "shop/web:1"
    x-longshore: {cached: true, image: false, buildkit_cache: .cache/web}
"""
LAYERS = (b"one" * 100_000, b"two" * 200_000)
TWO = digest_of(LAYERS[1])
LATEST = {"org.opencontainers.image.ref.name": "latest"}


@pytest.fixture
def project(shell: Shell, docker: FakeDocker) -> Shell:
    """A new machine on whose engine BuildKit fetches caches; one is stored."""
    shell.engine = TinyEngine(image_store="containerd")
    shell.engine.asks_registries = True
    shell.write("compose.yaml", COMPOSE)
    write_cache(shell.directory / ".cache" / "web", *LAYERS, annotations=LATEST)
    assert shell("export") == 0
    (shell.directory / ".cache").rename(shell.directory / "before")
    docker.tell(fetches=[f"blobs/{TWO}"])
    return shell


def names(project: Shell) -> set[str]:
    """List what the cache directory has."""
    folder = project.directory / ".cache"
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_build_is_told_a_registry_and_fetches_what_it_wants(
    project: Shell, docker: FakeDocker
) -> None:
    document = project.json("build", "--no-export")

    (told,) = document["build"]["services"]
    assert told["cache_from"][0].startswith("type=registry,ref=127.0.0.1:")
    assert told["cache_from"][0].endswith("/0-web-1:latest")
    assert len(told["cache_from"]) == 1
    assert [fetched[1:] for fetched in docker.fetched] == [
        (200, OCI_INDEX, docker.fetched[0][3]),
        (200, "application/octet-stream", len(LAYERS[1])),
    ]
    (cache,) = document["import"]["caches"]
    assert (cache["served"], cache["blobs"], cache["blobs_fetched"]) == (True, 2, 1)
    assert 0 < document["import"]["downloaded_bytes"] <= document["traffic"]["bytes_in"]
    assert "Web_1: the build fetched 1 of 2 blobs of its BuildKit cache" in project.err


def test_build_that_writes_no_cache_leaves_the_stored_one_for_the_export(
    project: Shell, docker: FakeDocker
) -> None:
    document = project.json("build")

    assert document["export"]["caches"][0]["unchanged"]
    before = project.directory / "before"
    assert names(project) == {
        str(p.relative_to(before)) for p in before.rglob("*") if p.is_file()
    } | {"web/oci-layout"}


def test_failed_build_writes_nothing_but_what_it_fetched(
    project: Shell, docker: FakeDocker
) -> None:
    docker.tell(exit_code=3)

    assert project("build") == 3
    assert names(project) == {f"web/blobs/{TWO.replace(':', '/')}"}
    assert len(docker.calls) == 1


@pytest.mark.parametrize(
    "path", ["blobs/sha256:" + "0" * 64, "blobs/sha256:x", "manifests/other", "tags/list"]
)
def test_what_the_cache_does_not_have_is_not_found_and_no_failure_of_the_cache(
    project: Shell, docker: FakeDocker, path: str
) -> None:
    docker.tell(fetches=[path])

    assert project("build") == 1
    assert docker.fetched[-1] == (path, 404, "", 0)
    assert len(docker.calls) == 1


def test_layer_that_is_there_is_not_fetched_again(project: Shell, docker: FakeDocker) -> None:
    blobs = project.directory / ".cache" / "web" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (blobs / TWO.removeprefix("sha256:")).write_bytes(LAYERS[1])
    document = project.json("build", "--no-export")

    assert docker.fetched[-1][1:] == (200, "application/octet-stream", len(LAYERS[1]))
    assert document["import"]["caches"][0]["blobs_fetched"] == 0


def test_layer_that_cannot_be_had_is_reported_and_the_build_repeated_without(
    project: Shell, docker: FakeDocker
) -> None:
    for pack in project.store.rglob("packs/*"):
        pack.write_bytes(b"x" * pack.stat().st_size)

    assert project("build", "--no-export") == 0
    assert docker.fetched[-1] == (f"blobs/{TWO}", 404, "", 0)
    first, second = (call["overrides"] for call in docker.calls)
    assert "type=registry" in "".join(first.values())
    assert "type=registry" not in "".join(second.values())
    assert "warning: Web_1: its BuildKit cache could not be read" in project.err
    assert "the build is repeated without the cache" in project.err


@pytest.mark.parametrize("found", [b"owt" * 200_000, b"two"])
def test_layer_of_the_directory_that_is_another_one_is_reported_and_the_build_repeated_without(
    project: Shell, docker: FakeDocker, found: bytes
) -> None:
    blobs = project.directory / ".cache" / "web" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    there = blobs / TWO.removeprefix("sha256:")
    there.write_bytes(LAYERS[1])
    docker.tell(spoils=[str(there), found.decode()])

    assert project("build", "--no-export") == 0
    assert len(docker.calls) == 2
    assert f"{TWO} in {project.directory}/.cache/web is not what its name says" in project.err


def test_miss_is_told_and_nothing_is_served(project: Shell, docker: FakeDocker) -> None:
    project("flush", "--yes")

    assert project("build", "--no-export") == 0
    assert docker.fetched == []
    assert "type=registry" not in "".join(docker.calls[0]["overrides"].values())


@pytest.mark.parametrize("reason", ["elsewhere", "graphdriver", "driver", "whole", "no import"])
def test_directory_is_written_before_builds_that_cannot_fetch_it(
    project: Shell, docker: FakeDocker, reason: str
) -> None:
    flags = ["--no-export"]
    if reason == "elsewhere":
        project.engine.asks_registries = False
    elif reason == "graphdriver":
        project.engine = TinyEngine(image_store="graphdriver")
    elif reason == "driver":
        docker.tell(driver="docker-container")
    else:
        flags.append({"whole": "--whole", "no import": "--no-import"}[reason])

    assert project("build", *flags) == 0
    assert docker.fetched == []
    assert ("web/index.json" in names(project)) if reason != "no import" else not names(project)
