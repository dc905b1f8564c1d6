"""The recipes of `docs/operations.md`: as the page shows them, valid, and tried."""

from __future__ import annotations

import copy
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.conftest import COMPOSE, STEPS, Shell
from tests.cli.passing import later

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/operations.md").read_text()
RECIPES = ROOT / "docs/operations"
CRONTAB = RECIPES / "crontab"
SERVICE = RECIPES / "longshore-prune.service"
TIMER = RECIPES / "longshore-prune.timer"
CRONJOB = RECIPES / "cronjob.yaml"
WORKFLOW = RECIPES / "prune.yml"
MONITORING = ("alerts.yml", "grafana-dashboard.json")  # of the sidecar, and on its page
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    store = f"file://{folder}/store"
    shell = Shell(folder, {"LONGSHORE_STORE": store, "LONGSHORE_SCOPE": "main"})
    shell.write("compose.yaml", COMPOSE)
    for content in (b"one", b"two"):
        shell.engine.build([*STEPS, ("COPY . .", {"app.js": content})], "shop/web:1")
        assert shell("export", "web") == 0
    return shell.store


@pytest.fixture
def store(tmp_path: Path, exported: Path) -> Path:
    """A store with two entries of a service, ten days old, of which the older one is to go."""
    shutil.copytree(exported, tmp_path / "store")
    later(tmp_path / "store", hours=240)
    return tmp_path / "store"


@pytest.fixture
def home(tmp_path: Path, store: Path) -> Path:
    """A user's home, with the settings that the recipes read, and longshore in a folder of it."""
    home = tmp_path / "home"
    (home / ".config/longshore").mkdir(parents=True)
    (home / ".config/longshore/env").write_text(f"LONGSHORE_STORE=file://{store}\n")
    (home / "bin").mkdir()
    stub = home / "bin/longshore"
    stub.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m longshore "$@"\n')
    stub.chmod(0o755)
    return home


def run(command: str, home: Path, *, shell: str = "bash", **more: str) -> str:
    """Run a command as cron does, with next to no environment; it must succeed and say nothing."""
    done = subprocess.run(
        [shell, "-c", command],
        cwd=home,
        env={
            "HOME": str(home),
            "PATH": f"{home}/bin:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT / "agent"),
            "LOGNAME": "x",
            **more,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr
    assert "warning" not in done.stderr
    return done.stdout


def entries(store: Path) -> int:
    return len(list(store.glob("shop/scopes/*/entries/*/*/*")))


@pytest.mark.parametrize(
    "path",
    sorted(path for path in RECIPES.iterdir() if path.name not in MONITORING),
    ids=lambda path: path.name,
)
def test_the_page_shows_the_file(path: Path) -> None:
    shown = re.search(
        rf"\[`operations/{re.escape(path.name)}`\]\(operations/{re.escape(path.name)}\):\n\n"
        r"```\w+\n(.*?)^```$",
        PAGE,
        re.DOTALL | re.MULTILINE,
    )
    assert shown is not None
    assert shown[1] == path.read_text()


# cron


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_the_crontabs_command_prunes_and_says_nothing(home: Path, store: Path, shell: str) -> None:
    path, line = CRONTAB.read_text().splitlines()
    assert re.fullmatch(r"PATH=[/a-z:]+", path)
    *times, command = line.split(None, 5)
    assert times == ["17", "*/6", "*", "*", "*"]
    assert "%" not in command

    assert run(command, home, shell=shell) == ""
    assert entries(store) == 1


def test_the_crontabs_command_fails_without_its_settings(home: Path) -> None:
    (home / ".config/longshore/env").unlink()
    command = CRONTAB.read_text().splitlines()[1].split(None, 5)[5]

    with pytest.raises(AssertionError):
        run(command, home)


# systemd


def unit(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith("["):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_service_runs_what_prunes(home: Path, store: Path) -> None:
    (command,) = unit(SERVICE)["ExecStart"]
    program, *arguments = command.split()
    assert program == "/usr/local/bin/longshore"

    out = run(shlex.join(["longshore", *arguments]), home, LONGSHORE_STORE=f"file://{store}")
    assert "shop: 1 entry removed" in out
    assert entries(store) == 1


def verify(folder: Path) -> str:
    done = subprocess.run(
        ["systemd-analyze", "verify", *(str(path) for path in sorted(folder.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
        timeout=60,
    )
    return done.stderr + done.stdout + (f"exit {done.returncode}" if done.returncode else "")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    folder = tmp_path / "units"
    folder.mkdir()
    text = SERVICE.read_text().replace("/usr/local/bin/longshore", "/bin/true")
    (folder / SERVICE.name).write_text(text)
    (folder / TIMER.name).write_text(TIMER.read_text())
    return folder


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(units: Path) -> None:
    assert verify(units) == ""
    (calendar,) = unit(TIMER)["OnCalendar"]
    subprocess.run(["systemd-analyze", "calendar", calendar], check=True, capture_output=True)

    wrong = (units / SERVICE.name).read_text().replace("DynamicUser", "DynamikUser")
    (units / SERVICE.name).write_text(wrong)
    assert "DynamikUser" in verify(units)  # so what it says about the real one means something


def test_the_units_are_such_as_systemd_knows() -> None:
    service, timer = unit(SERVICE), unit(TIMER)
    assert service["Type"] == ["oneshot"]
    assert service["EnvironmentFile"] == ["/etc/longshore/env"]
    assert timer["WantedBy"] == ["timers.target"]
    assert TIMER.stem == SERVICE.stem  # or the timer would start another unit


# Kubernetes


def container(document: Any) -> Any:
    (found,) = document["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return found


def check_cronjob(document: Any) -> None:
    """Compare with the models of the official client, which are made from the API's schema."""
    from kubernetes.client.models.v1_cron_job import V1CronJob

    V1CronJob.model_validate(document, strict=True)


def test_the_cronjob_is_one_to_kubernetes() -> None:
    document = yaml.safe_load(CRONJOB.read_text())

    assert (document["apiVersion"], document["kind"]) == ("batch/v1", "CronJob")
    assert document["spec"]["schedule"].split() == ["17", "*/6", "*", "*", "*"]
    assert document["spec"]["concurrencyPolicy"] in ("Allow", "Forbid", "Replace")
    check_cronjob(document)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["spec"].pop("schedule"),
        lambda document: document["spec"].update(shedule="1 1 * * *"),
        lambda document: container(document).update(args="prune"),
        lambda document: container(document)["securityContext"].update(privilegd=False),
    ],
)
def test_a_cronjob_with_a_mistake_would_be_found(change: Callable[[Any], object]) -> None:
    document = copy.deepcopy(yaml.safe_load(CRONJOB.read_text()))
    change(document)

    with pytest.raises(ValueError, match="V1CronJob"):
        check_cronjob(document)


def test_the_cronjobs_arguments_prune(home: Path, store: Path) -> None:
    arguments = container(yaml.safe_load(CRONJOB.read_text()))["args"]

    out = run(shlex.join(["longshore", *arguments]), home, LONGSHORE_STORE=f"file://{store}")
    assert "shop: 1 entry removed" in out


# GitHub Actions


def check_workflow(path: Path) -> int:
    """Compare with GitHub's schema, as a package ships it: nothing is fetched."""
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema")
    return subprocess.run(
        [*command, "vendor.github-workflows", str(path)],
        capture_output=True,
        check=False,
        timeout=120,
    ).returncode


def test_the_workflow_is_one_to_github(tmp_path: Path) -> None:
    assert check_workflow(WORKFLOW) == 0

    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOW.read_text().replace("runs-on", "run-on"))
    assert check_workflow(wrong) == 1


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(
        ["git", *identity, *arguments], cwd=folder, env=environment, check=True, capture_output=True
    )


@pytest.fixture
def checkout(home: Path, tmp_path: Path) -> Path:
    """The project as a job finds it, with a remote that has the branch `main`."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "remote"))
    git(home, "init", "--quiet", "--initial-branch=main")
    git(home, "commit", "--quiet", "--allow-empty", "-m", "one")
    git(home, "remote", "add", "origin", str(tmp_path / "remote"))
    git(home, "push", "--quiet", "origin", "main")
    (home / "compose.yaml").write_text(COMPOSE)
    return home


def test_the_workflows_last_step_prunes(checkout: Path, store: Path) -> None:
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    assert job["env"]["LONGSHORE_STORE"].startswith("s3://")

    out = run(job["steps"][-1]["run"], checkout, LONGSHORE_STORE=f"file://{store}")
    assert "shop: 1 entry removed" in out


# What else the page shows


def test_the_list_of_open_pull_requests_prunes(checkout: Path, store: Path) -> None:
    (command,) = (text for kind, text in BLOCKS if kind == "sh" and "gh pr list" in text)
    gh = checkout / "bin/gh"
    gh.write_text('#!/bin/sh\nprintf "pr:17\\npr:18\\n"\n')
    gh.chmod(0o755)

    out = run(command, checkout, LONGSHORE_STORE=f"file://{store}")
    assert "shop: 1 entry removed" in out


def test_the_commands_of_the_page_are_parsed(home: Path, store: Path) -> None:
    lines = [
        line
        for kind, text in BLOCKS
        for line in text.splitlines()
        if kind == "sh" and line.startswith("longshore ")
    ]
    assert len(lines) == 11
    (home / "compose.yaml").write_text(COMPOSE)
    for line in lines:
        # Nobody is there to be asked.
        run(line, home, LONGSHORE_STORE=f"file://{store}", LONGSHORE_YES="1")


def test_the_rights_are_those_of_requests_that_prune_makes() -> None:
    rights = set(re.findall(r"`(s3:\w+)`", PAGE))

    assert rights == {
        *("s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"),
        *("s3:AbortMultipartUpload", "s3:ListBucketMultipartUploads"),
    }
