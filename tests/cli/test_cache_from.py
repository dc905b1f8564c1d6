"""`longshore cache-from`: what it writes, where, and how it ends."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.cli.conftest import STEPS, Shell
from tests.support.fake_docker import FakeDocker
from tests.support.fake_engine import FakeEngine

from longshore.core.yaml_reader import parse_yaml
from longshore.engine.contract import EngineImage, EngineInfo

BUILT = """
name: shop
services:
  web: {build: ., image: "shop/web:1", x-longshore: {cached: true, buildkit_cache: .cache/web}}
  api: {build: ., image: "shop/api:1", x-longshore: {cached: true, images: ["shop/api:deps"]}}
  db: {image: "postgres:16", x-longshore: {cached: true}}
"""


class ContainerdEngine(FakeEngine):
    """An engine that says it keeps its images in containerd."""

    async def info(self) -> EngineInfo:
        return replace(await super().info(), image_store="containerd")


class HalfEngine(FakeEngine):
    """An engine that has parts of its images only."""

    async def inspect(self, name: str) -> EngineImage | None:
        found = await super().inspect(name)
        return found and replace(found, complete=False)


@pytest.fixture
def project(built: Shell, docker: FakeDocker) -> Shell:
    """A project whose services are built, and the engine has the images of two of them."""
    built.write("compose.yaml", BUILT)
    return built


def fill(shell: Shell, folder: str = ".cache/web") -> Path:
    """Put a cache into a directory, as small as BuildKit would accept one."""
    path = shell.directory / folder
    path.mkdir(parents=True)
    reference = {"org.opencontainers.image.ref.name": "latest"}
    manifest = b'{"schemaVersion":2,"layers":[]}'
    digest = hashlib.sha256(manifest).hexdigest()
    (path / "blobs" / "sha256").mkdir(parents=True)
    (path / "blobs" / "sha256" / digest).write_bytes(manifest)
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{digest}",
        "size": len(manifest),
        "annotations": reference,
    }
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return path


def test_flags_are_for_one_build_on_one_line(project: Shell) -> None:
    assert project("cache-from", "api") == 0

    assert project.out == "--cache-from shop/api:1 --build-arg BUILDKIT_INLINE_CACHE=1\n"
    assert project.err == ""


def test_images_of_stages_are_named_if_the_engine_has_them(project: Shell) -> None:
    project.engine.build(STEPS, "shop/api:deps")

    assert project("cache-from", "api", "--classic") == 0
    assert project.out == "--cache-from shop/api:deps --cache-from shop/api:1\n"


def test_image_that_is_not_all_there_is_not_named(project: Shell) -> None:
    project.engine = HalfEngine()
    project.engine.build(STEPS, "shop/api:1")

    assert project("cache-from", "api", "--classic") == 0
    assert project.out == ""


def test_only_service_need_not_be_named(project: Shell) -> None:
    project.write(
        "compose.yaml", 'services: {a: {image: "shop/api:1", x-longshore: {cached: yes}}}'
    )

    assert project("cache-from") == 0
    assert "--cache-from shop/api:1 " in project.out


@pytest.mark.parametrize("names", [[], ["web", "api"]])
def test_flags_of_several_services_are_refused(project: Shell, names: list[str]) -> None:
    assert project("cache-from", *names) == 2
    assert "name one service: web, api" in project.err
    assert project.out == ""


def test_nothing_to_say_is_an_empty_output_and_a_reason(project: Shell) -> None:
    project.engine.images.clear()

    assert project("cache-from", "api", "--classic") == 0
    assert project.out == ""
    assert project.err == "api: the engine has none of its images\n"


def test_store_is_not_asked_and_need_not_be_set(project: Shell) -> None:
    del project.environment["LONGSHORE_STORE"]

    assert project("cache-from", "api") == 0


@pytest.mark.parametrize(
    ("name", "said"), [("nope", "there is no service 'nope'"), ("db", "not marked as cached")]
)
def test_service_that_is_not_cached_is_an_error(shell: Shell, name: str, said: str) -> None:
    assert shell("cache-from", name) == 3
    assert said in shell.err
    assert shell.out == ""


def test_engine_that_cannot_be_reached_is_an_error(project: Shell) -> None:
    project.engine.unreachable = True

    assert project("cache-from", "api") == 9
    assert "cannot be reached" in project.err
    assert project.out == ""


def test_builder_is_found_out_as_the_docker_command_does(
    project: Shell, docker: FakeDocker
) -> None:
    project.environment["DOCKER_BUILDKIT"] = "0"
    project("cache-from", "api")
    assert project.out == "--cache-from shop/api:1\n"

    assert project("cache-from", "api", "--buildkit") == 0
    assert "BUILDKIT_INLINE_CACHE" in project.out

    del project.environment["DOCKER_BUILDKIT"]
    docker.tell(buildx=False)
    project("cache-from", "api")
    assert project.out == "--cache-from shop/api:1\n"


def test_docker_command_need_not_be_there(project: Shell) -> None:
    project.environment["PATH"] = "/nonexistent"

    assert project("cache-from", "api") == 0
    assert "BUILDKIT_INLINE_CACHE" in project.out


def test_another_builder_counts_for_docker_build_only_if_it_is_named(
    project: Shell, docker: FakeDocker
) -> None:
    docker.tell(driver="docker-container")
    fill(project)
    project("cache-from", "web")
    assert "shop/web:1" in project.out
    project.json("cache-from", "web", "--format", "bake")
    assert "shop/web:1" not in project.out

    project.environment["BUILDX_BUILDER"] = "remote"
    project("cache-from", "web")
    assert project.out.startswith("--cache-from type=local,src=.cache/web --cache-to type=local,")


def test_cache_directory_counts_on_a_containerd_store(project: Shell) -> None:
    project.engine = ContainerdEngine()
    export = (
        "--cache-to type=local,dest=.cache/web,mode=max,compression=uncompressed,"
        "force-compression=true,oci-mediatypes=true,ignore-error=true\n"
    )
    assert project("cache-from", "web") == 0
    assert project.out == export
    assert "there is no cache in .cache/web yet" in project.err

    fill(project)
    assert project("cache-from", "web") == 0
    assert project.out == f"--cache-from type=local,src=.cache/web {export}"


@pytest.mark.parametrize("damage", ["index", "manifest", "no manifest", "no latest"])
def test_damaged_cache_directory_is_left_out(project: Shell, damage: str) -> None:
    project.engine = ContainerdEngine()
    path = fill(project)
    (manifest,) = (path / "blobs" / "sha256").iterdir()
    if damage == "index":
        (path / "index.json").write_text('{"schemaV')
    elif damage == "no latest":
        text = (path / "index.json").read_text()
        (path / "index.json").write_text(text.replace("latest", "other"))
    elif damage == "manifest":
        manifest.write_text('{"schemaV')
    else:
        manifest.unlink()

    assert project("cache-from", "web") == 0
    assert project.out == ""
    assert "remove the directory" in project.err


def test_directory_where_a_file_stands_in_the_way_is_not_written(project: Shell) -> None:
    project.engine = ContainerdEngine()
    project.write(".cache", "a file")

    assert project("cache-from", "web") == 0
    assert project.out == ""
    assert ".cache/web cannot be written" in project.err


def test_flags_name_a_directory_outside_by_its_full_path(project: Shell, tmp_path: Path) -> None:
    project.engine = ContainerdEngine()
    project.write("compose.yaml", BUILT.replace(".cache/web", "../elsewhere"))

    assert project("cache-from", "web") == 0
    assert f"dest={tmp_path.parent}/elsewhere," in project.out


def test_directory_counts_from_the_services_file_on(project: Shell) -> None:
    project.engine = ContainerdEngine()
    (project.directory / "ci").mkdir()
    project.write("ci/compose.yaml", BUILT)

    assert project("cache-from", "web", "--services", "ci/compose.yaml") == 0
    assert "dest=ci/.cache/web," in project.out


def test_flag_that_a_shell_would_take_apart_is_left_out(project: Shell) -> None:
    project.engine = ContainerdEngine()
    project.write("compose.yaml", BUILT.replace(".cache/web", "my cache"))

    assert project("cache-from", "web") == 0
    assert project.out == ""
    assert "a shell would take it apart" in project.err


def test_compose_override_has_each_service_that_is_built(project: Shell) -> None:
    fill(project)
    assert project("cache-from", "--format", "compose") == 0

    services = parse_yaml(project.out, path="override").get("services")
    assert services is not None
    assert list(services.entries()) == ["web", "api"]
    assert f'- "type=local,src={project.directory}/.cache/web"' in project.out
    assert "db is left out: it is not built here" in project.err


def test_compose_override_of_nothing_is_valid(project: Shell) -> None:
    assert project("cache-from", "db", "--format", "compose") == 0

    assert project.out.endswith("services: {}\n")


def test_bake_override_has_full_paths(project: Shell) -> None:
    fill(project)
    assert project("cache-from", "web", "--format", "bake") == 0

    target = json.loads(project.out)["target"]["web"]
    assert target["cache-from"] == [
        "shop/web:1",
        f"type=local,src={project.directory}/.cache/web",
    ]
    assert target["args"] == {"BUILDKIT_INLINE_CACHE": "1"}


def test_bake_cannot_be_classic(project: Shell) -> None:
    assert project("cache-from", "web", "--format", "bake", "--classic") == 2
    assert "no classic builder" in project.err


@pytest.mark.parametrize("arguments", [["--json"], ["--format", "json"]])
def test_json_has_all_services_and_their_notes(project: Shell, arguments: list[str]) -> None:
    assert project("cache-from", *arguments) == 0

    document = json.loads(project.out)
    assert document["command"] == "cache-from"
    assert document["exit_code"] == 0
    web, api, db = document["services"]
    assert web["cache_from"] == ["shop/web:1"]
    assert "buildkit_cache" in web["notes"][0]
    assert api == {
        "service": "api",
        "cache_from": ["shop/api:1"],
        "cache_to": [],
        "output": "",
        "build_args": {"BUILDKIT_INLINE_CACHE": "1"},
        "notes": [],
    }
    assert db["notes"] == ["the engine has none of its images"]


def test_format_of_the_configuration_file_is_no_other_commands_business(project: Shell) -> None:
    project.write("longshore.toml", 'format = "json"\noutput = "somewhere"\n')
    assert project("export", "web") == 0

    assert project.out.startswith("web: ")
    assert not (project.directory / "somewhere").exists()


def test_wrong_format_is_wrong_usage(project: Shell) -> None:
    assert project("cache-from", "--format", "toml") == 2
    assert "known are flags, compose, bake, json" in project.err


@pytest.mark.parametrize("form", ["flags", "compose", "bake", "json"])
def test_output_goes_to_a_file_and_standard_error_says_so(project: Shell, form: str) -> None:
    arguments = ("cache-from", "web", "--format", form)
    project(*arguments)
    shown = project.out
    project.write("out", "before")
    assert project(*arguments, "--output", "out") == 0

    assert project.out == ""
    assert (project.directory / "out").read_text() == shown
    assert "out was written\n" in project.err
    assert [path.name for path in project.directory.glob("*out*")] == ["out"]


def test_file_stays_as_it_is_if_the_command_fails(project: Shell) -> None:
    project.write("out", "before")
    project.engine.unreachable = True

    assert project("cache-from", "web", "--output", "out") == 9
    assert (project.directory / "out").read_text() == "before"


def test_file_that_cannot_be_written_is_one_line(project: Shell) -> None:
    assert project("cache-from", "api", "--output", "no/such/out") == 2
    assert project.err == (
        "error: the result cannot be written to no/such/out: No such file or directory\n"
    )


def test_output_may_be_a_pipe(project: Shell) -> None:
    pipe = project.directory / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert project("cache-from", "api", "--output", "pipe") == 0
        assert os.read(reader, 4096).startswith(b"--cache-from shop/api:1 ")
        assert pipe.is_fifo()
    finally:
        os.close(reader)
