"""The scripts: they parse, they are executable, the lock files fit, and the demo does its job."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from tests.engine_fixtures import prepare_engine
from tests.support.engines import processes_of

ROOT = Path(__file__).resolve().parent.parent
SHELL = [
    *("scripts/setup", "scripts/test", "scripts/demo", "scripts/lock", "scripts/fuzz"),
    *("scripts/browser", "scripts/wheels", ".ci/run"),
]
LOCKS = ["requirements.lock", "requirements-dev.lock", "requirements-build.lock"]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;]+)(?: ; [^\\]+)? \\$", re.MULTILINE)


def _locked(name: str) -> dict[str, set[str]]:
    """Read a lock file: the versions of each package, two if they depend on the Python."""
    versions: dict[str, set[str]] = {}
    for package, version in PINNED.findall((ROOT / name).read_text()):
        versions.setdefault(package, set()).add(version)
    return versions


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("script", [*SHELL, "scripts/engines", "scripts/ceph"])
def test_script_is_executable(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    assert (ROOT / script).read_text().startswith("#!/usr/bin/env ")


@pytest.mark.parametrize("script", SHELL)
def test_shell_script_parses(script: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)
    if shellcheck := shutil.which("shellcheck"):
        subprocess.run([shellcheck, str(ROOT / script)], check=True)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_file_pins_every_package_by_hash_and_names_no_index(lock: str) -> None:
    for line in (ROOT / lock).read_text().splitlines():
        assert line.startswith("#") or PINNED.match(line) or re.match(r"    --hash=sha256:", line)
    assert _locked(lock)


def test_lock_files_satisfy_what_pyproject_asks_for() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        parsed = tomllib.load(file)
    wanted = {
        "requirements.lock": parsed["project"]["dependencies"],
        "requirements-dev.lock": [
            *parsed["project"]["dependencies"],
            *parsed["project"]["optional-dependencies"]["dev"],
            *parsed["build-system"]["requires"],
        ],
        "requirements-build.lock": parsed["build-system"]["requires"],
    }

    for lock, requirements in wanted.items():
        versions = _locked(lock)
        for requirement in map(Requirement, requirements):
            found = versions.get(_normal(requirement.name))
            assert found, f"{lock} lacks {requirement}: run scripts/lock"
            for version in map(Version, found):
                assert version in requirement.specifier, f"{requirement}: run scripts/lock"


def test_lock_files_agree_with_each_other() -> None:
    everything = _locked("requirements-dev.lock")
    for lock in ("requirements.lock", "requirements-build.lock"):
        for package, versions in _locked(lock).items():
            assert package == "uv" or versions == everything[package]


def test_boto3_has_the_botocore_that_aiobotocore_takes() -> None:
    locked = _locked("requirements.lock")
    assert locked["boto3"] == locked["botocore"]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A place for engines: the paths of pytest's own are too long for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="ls-") as folder:
        yield Path(folder)


@pytest.fixture
def demo(short_folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo, running; it makes all that it makes in `short_folder`."""
    prepare_engine()  # or skips; the demo would look for an engine that answers
    environment = {**os.environ, "TMPDIR": str(short_folder), "DOCKER_HOST": "unix:///nowhere"}
    with subprocess.Popen(
        [str(ROOT / "scripts/demo")],
        cwd=short_folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.mark.engine
def test_demo_rebuilds_everything_from_the_cache_and_leaves_nothing(
    demo: subprocess.Popen[str], short_folder: Path
) -> None:
    said, complaints = demo.communicate()

    assert demo.returncode == 0, said + complaints
    assert re.search(r"Machine 2 builds.*\n +web +0 steps run, [1-9].*\n +worker +0 steps ", said)
    assert "\x1b" not in said
    assert not list(short_folder.iterdir())
    assert not processes_of(short_folder)


@pytest.mark.engine
def test_demo_leaves_nothing_when_it_is_interrupted(
    demo: subprocess.Popen[str], short_folder: Path
) -> None:
    assert demo.stdout is not None
    for line in demo.stdout:
        if "Machine 1 builds" in line:
            break
    os.killpg(demo.pid, signal.SIGINT)  # as Ctrl-C does
    _, complaints = demo.communicate()

    assert (demo.returncode, complaints) == (130, "")
    assert not list(short_folder.iterdir())
    assert not processes_of(short_folder)
