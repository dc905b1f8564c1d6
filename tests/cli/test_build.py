"""`longshore build`: import, the build, export; what the build is told, and how it all ends."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path

import pytest
from tests.cli.conftest import STEPS, Shell
from tests.cli.test_exit_codes import denied, flip_entry
from tests.support.fake_docker import FakeDocker

COMPOSE = """
name: shop
services:
  web: {build: ., image: "shop/web:1", x-longshore: {cached: true}}
  api: {build: ., image: "shop/api:1", x-longshore: {cached: true}}
  db: {image: "postgres:16"}
"""
CODESHIP = """
web: {cached: true, build: {image: "shop/web:1", args: {MODE: ci}}}
api: {cached: true, build: {image: "shop/api:1", context: api}}
data: {cached: true, image: "postgres:16"}
other: {build: {image: "shop/other"}}
"""


@pytest.fixture
def project(exported: Shell, docker: FakeDocker) -> Shell:
    """A new machine: what was exported is in the store, the engine is empty."""
    exported.write("compose.yaml", COMPOSE)
    return exported


@pytest.fixture
def codeship(project: Shell) -> Shell:
    (project.directory / "compose.yaml").unlink()
    project.write("codeship-services.yml", CODESHIP)
    project.environment["LONGSHORE_PROJECT"] = "shop"
    return project


def test_build_imports_then_builds_warm_and_exports(
    project: Shell, docker: FakeDocker, capfd: pytest.CaptureFixture[str]
) -> None:
    assert project("build") == 0

    (call,) = docker.calls
    override = call["arguments"][4]
    assert call["arguments"] == ["compose", "-f", "compose.yaml", "-f", override, "build"]
    assert Path(call["cwd"]) == project.directory
    (text,) = call["overrides"].values()
    assert '- "shop/web:1"' in text
    assert '- "shop/api:1"' in text
    assert "the build's own output" in capfd.readouterr().out
    assert project.out.index("imported 2 of 2") < project.out.index("exported 2 services")


def test_override_file_is_not_in_the_project_and_is_gone_afterwards(
    project: Shell, docker: FakeDocker
) -> None:
    before = set(project.directory.iterdir())
    project("build")

    override = Path(docker.calls[0]["arguments"][4])
    assert project.directory not in override.parents
    assert Path(tempfile.gettempdir()) in override.parents
    assert not override.parent.exists()
    assert set(project.directory.iterdir()) == before


def test_only_named_services_are_imported_built_and_exported(
    project: Shell, docker: FakeDocker
) -> None:
    document = project.json("build", "api")

    (call,) = docker.calls
    assert call["arguments"][-2:] == ["build", "api"]
    assert "web" not in "".join(call["overrides"].values())
    for part in ("import", "build", "export"):
        assert [service["service"] for service in document[part]["services"]] == ["api"]


def test_what_follows_two_dashes_goes_to_the_build(project: Shell, docker: FakeDocker) -> None:
    assert project("build", "api", "--", "--pull", "--build-arg", "A=1") == 0

    assert docker.calls[0]["arguments"][-5:] == ["build", "--pull", "--build-arg", "A=1", "api"]


def test_uncached_service_is_built_and_that_is_all(project: Shell, docker: FakeDocker) -> None:
    assert project("build", "db") == 0

    assert docker.calls[0]["arguments"] == ["compose", "-f", "compose.yaml", "build", "db"]
    assert project.out == ""
    assert "none of these services is cached" in project.err


def test_override_of_the_project_and_compose_file_are_respected(
    project: Shell, docker: FakeDocker
) -> None:
    project.write("compose.override.yaml", "services: {}")
    project("build")
    assert docker.calls[0]["arguments"][1:5] == [
        "-f",
        "compose.yaml",
        "-f",
        "compose.override.yaml",
    ]

    project.write(".env", "COMPOSE_FILE=compose.yaml:ci.yaml\n")
    project("build")
    assert docker.calls[1]["arguments"][1:5] == ["-f", "compose.yaml", "-f", "ci.yaml"]

    project("build", "--services", "compose.yaml")
    assert docker.calls[2]["arguments"][1:3] == ["-f", "compose.yaml"]
    assert docker.calls[2]["arguments"][4].endswith("longshore.cache.yaml")


def test_compose_file_that_leaves_the_services_file_out_is_wrong_usage(
    project: Shell, docker: FakeDocker
) -> None:
    project.environment["COMPOSE_FILE"] = "other.yaml"

    assert project("build") == 2
    assert "name one of them with --services" in project.err
    assert project.engine.images == {}
    assert docker.calls == []


def test_failed_build_gives_its_exit_code_and_is_not_exported(
    project: Shell, docker: FakeDocker
) -> None:
    docker.tell(exit_code=17)
    entries = set(project.store.rglob("entries/*/*/*"))

    assert project("build") == 17
    assert project.err.endswith("error: the build ended with exit code 17; nothing is exported\n")
    assert set(project.store.rglob("entries/*/*/*")) == entries


def test_failures_of_the_cache_do_not_fail_the_build(project: Shell, docker: FakeDocker) -> None:
    denied(project)
    assert project("build") == 0
    assert "expired token" in project.err

    project.engine.unreachable = True
    assert project("build") == 0
    assert "cannot be reached" in project.err
    assert docker.calls[1]["arguments"] == ["compose", "-f", "compose.yaml", "build"]

    project.environment["LONGSHORE_STRICT"] = "1"
    assert project("build") == 0


def test_damaged_entry_is_a_miss_and_exported_anew(project: Shell, docker: FakeDocker) -> None:
    flip_entry(project)
    project.engine.build(STEPS, "shop/web:1")

    assert project("build", "web") == 0
    assert "warning: " in project.err
    assert project("import", "web", "--strict") == 0


@pytest.mark.parametrize(("switch", "kept"), [("--no-import", "export"), ("--no-export", "import")])
def test_either_side_can_be_left_out(project: Shell, switch: str, kept: str) -> None:
    project.engine.build(STEPS, "shop/web:1")
    document = project.json("build", "web", switch)

    assert document[kept] is not None
    assert document[switch.removeprefix("--no-")] is None


def test_build_without_import_and_export_needs_no_store(project: Shell, docker: FakeDocker) -> None:
    del project.environment["LONGSHORE_STORE"]

    assert project("build", "--no-import", "--no-export") == 0
    assert len(docker.calls) == 1
    assert project("build") == 2
    assert "LONGSHORE_STORE" in project.err
    assert len(docker.calls) == 1


def test_time_limit_is_the_caches_and_not_the_builds(project: Shell, docker: FakeDocker) -> None:
    assert project("build", "--timeout", "0.001s") == 0

    assert "import did not end within 0.001s" in project.err
    assert len(docker.calls) == 1


def test_json_keeps_the_builds_output_out_of_standard_output(
    project: Shell, docker: FakeDocker, capfd: pytest.CaptureFixture[str]
) -> None:
    document = project.json("build")

    out, err = capfd.readouterr()
    assert "the build's own output" not in out
    assert "the build's own output" in err
    assert (document["ok"], document["exit_code"]) == (True, 0)
    assert document["build"]["exit_code"] == 0
    assert document["build"]["services"][0]["cache_from"] == ["shop/web:1"]
    assert document["import"]["services"][0]["outcome"] == "hit"
    assert document["export"]["services"][0]["unchanged"]
    assert document["project"] == "shop"


def test_failed_build_is_told_in_json(project: Shell, docker: FakeDocker) -> None:
    docker.tell(exit_code=1)
    document = project.json("build")

    assert (document["exit_code"], document["build"]["exit_code"]) == (1, 1)
    assert document["export"] is None


@pytest.mark.parametrize(("switch", "value"), [("--classic", "0"), ("--buildkit", "1")])
def test_builder_that_is_asked_for_is_the_one_that_builds(
    project: Shell, docker: FakeDocker, switch: str, value: str
) -> None:
    project("build", switch)
    project("build")

    assert [call["buildkit"] for call in docker.calls] == [value, None]


@pytest.mark.parametrize("arguments", [["--builder", "remote"], ["--builder=remote"]])
def test_builder_that_is_named_behind_the_dashes_counts(
    codeship: Shell, docker: FakeDocker, arguments: list[str]
) -> None:
    docker.tell(driver="docker-container")
    assert codeship("build", "web") == 0
    assert "--cache-from" in docker.calls[0]["arguments"]
    assert codeship("build", "web", "--", *arguments) == 0

    assert "--cache-from" not in docker.calls[1]["arguments"]
    assert "docker-container" in codeship.err


def test_docker_or_compose_that_is_missing_is_wrong_usage_in_one_line(
    project: Shell, docker: FakeDocker
) -> None:
    docker.tell(compose=False)
    assert project("build") == 2
    assert project.err.startswith("error: `docker` has no `compose` here; install ")

    project.environment["PATH"] = "/nonexistent"
    assert project("build") == 2
    assert project.err.startswith("error: there is no `docker` command to build with; install ")
    assert len(project.err.splitlines()) == 1


def test_unknown_service_is_wrong_usage_before_anything_is_done(
    project: Shell, docker: FakeDocker
) -> None:
    assert project("build", "nope") == 2
    assert "known are api, db, web" in project.err
    assert docker.calls == []


def test_build_needs_a_services_file(project: Shell) -> None:
    (project.directory / "compose.yaml").unlink()

    assert project("build", "--image", "web=shop/web:1", "--project", "shop") == 2
    assert "--services" in project.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_build_and_leaves_nothing_behind(
    project: Shell, docker: FakeDocker, number: signal.Signals
) -> None:
    docker.tell(hangs=int(number))

    assert project("build") == 128 + number
    assert docker.was_stopped
    assert f"stopped: {number.name}" in project.err
    assert not Path(docker.calls[0]["arguments"][4]).exists()


def test_services_of_codeship_are_built_one_by_one(codeship: Shell, docker: FakeDocker) -> None:
    assert codeship("build", "--", "--pull") == 0

    web, api = (call["arguments"] for call in docker.calls)
    assert web == [
        *("build", "--cache-from", "shop/web:1", "--build-arg", "BUILDKIT_INLINE_CACHE=1"),
        *("--build-arg", "MODE=ci", "--pull", "--tag", "shop/web:1", "."),
    ]
    assert api[-3:] == ["--tag", "shop/api:1", "api"]
    assert "data is left out: it is not built here" in codeship.err


def test_first_build_of_codeships_that_fails_is_the_last(
    codeship: Shell, docker: FakeDocker
) -> None:
    docker.tell(exit_code=3)

    assert codeship("build") == 3
    assert len(docker.calls) == 1


@pytest.mark.parametrize(
    ("names", "said"),
    [(["other"], "other is not cached"), (["data"], "nothing to build"), (["no"], "no service")],
)
def test_what_cannot_be_built_of_codeships_is_wrong_usage(
    codeship: Shell, docker: FakeDocker, names: list[str], said: str
) -> None:
    assert codeship("build", *names) == 2
    assert said in codeship.err
    assert docker.calls == []


def test_encrypted_arguments_are_told_of(codeship: Shell, docker: FakeDocker) -> None:
    codeship.write(
        "codeship-services.yml", CODESHIP.replace("args: {", "encrypted_args_file: x, args: {")
    )

    assert codeship("build", "web") == 0
    assert "longshore build web -- --build-arg NAME=value" in codeship.err


def test_engine_is_closed_after_a_build(project: Shell, docker: FakeDocker) -> None:
    project("build")

    assert project.engine.closed
