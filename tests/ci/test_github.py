"""The action for GitHub: its steps are run as the runner does, and its post step by Node.js."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.ci.conftest import CI, Machine, Playback

ACTION = CI / "github/action.yml"
WORKFLOW = yaml.safe_load((CI / "github/workflow.yml").read_text())
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(not NODE, reason="needs Node.js, as every runner has it")
ROOT = CI.parents[1]
# Makes what `python -m venv` makes, as far as the action looks at it.
PYTHON = """#!/bin/sh
[ "$1 $2" = "-m venv" ] || exit 1
mkdir -p "$3/bin"
ln -s {bin}/pip {bin}/python "$3/bin/"
cp {bin}/installed "$3/bin/longshore"
"""


@dataclass
class Runner:
    """As much of GitHub's runner as the action uses."""

    machine: Machine
    used: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    posts: list[tuple[Path, dict[str, str], dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        machine = self.machine
        # What is installed is the only longshore: another one would hide that it is not in PATH.
        (machine.bin / "longshore").rename(machine.bin / "installed")
        for name in ("pip", "python"):
            machine.install(name)
        python = machine.bin / "python3"
        python.write_text(PYTHON.format(bin=machine.bin))
        python.chmod(0o755)
        (machine.folder / "temp").mkdir()
        machine.environment |= {
            "GITHUB_ACTIONS": "true",
            "GITHUB_REF": "refs/heads/main",
            "GITHUB_EVENT_NAME": "push",
            "RUNNER_TEMP": str(machine.folder / "temp"),
        }

    def step(self, command: list[str], environment: dict[str, str], directory: Path) -> str:
        """Run a step, then take in what it says to those that follow; return its state."""
        files = {f"GITHUB_{n}": self.machine.folder / n for n in ("ENV", "PATH", "STATE")}
        for path in files.values():
            path.write_text("")
        environment = {**environment, **{name: str(path) for name, path in files.items()}}
        done = self.machine.run(command, environment=environment, directory=directory)
        assert done.returncode == 0, done.stdout + done.stderr
        for line in files["GITHUB_ENV"].read_text().splitlines():
            name, _, value = line.partition("=")
            self.machine.environment[name] = value
        for line in files["GITHUB_PATH"].read_text().splitlines():
            self.machine.environment["PATH"] = f"{line}:{self.machine.environment['PATH']}"
        return files["GITHUB_STATE"].read_text()

    def start(self, **given: str) -> None:
        """Run the composite action."""
        definition = yaml.safe_load(ACTION.read_text())
        given = {name.replace("_", "-"): value for name, value in given.items()}
        assert set(given) <= set(definition["inputs"])
        inputs = {n: given.get(n, i["default"]) for n, i in definition["inputs"].items()}
        assert definition["runs"]["using"] == "composite"
        for step in definition["runs"]["steps"]:
            if condition := step.get("if"):
                name, operator, value = re.fullmatch(
                    r"inputs\.([a-z-]+) ([!=]=) '(.*)'", condition
                ).groups()  # type: ignore[union-attr]
                if (inputs[name] == value) != (operator == "=="):
                    continue
            values = {n: fill(v, inputs) for n, v in step.get("with", {}).items()}
            if "uses" in step:
                self.used.append((step["uses"], values))
                place = re.fullmatch(r"acme/longshore/(.*)@main", step["uses"])
                if place and NODE:
                    self.main(ROOT / place[1], values)
                continue
            environment = {n: fill(v, inputs) for n, v in step.get("env", {}).items()}
            environment["GITHUB_ACTION_PATH"] = str(ACTION.parent)
            directory = self.machine.checkout / fill(step.get("working-directory", "."), inputs)
            shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
            self.step(shell, environment, directory)

    def main(self, action: Path, values: dict[str, str]) -> None:
        """Run the main step of a JavaScript action, and note its post step down."""
        definition = yaml.safe_load((action / "action.yml").read_text())
        given = {n: values.get(n, i["default"]) for n, i in definition["inputs"].items()}
        variables = {f"INPUT_{n.upper()}": v for n, v in given.items()}
        assert NODE
        script = str(action / definition["runs"]["main"])
        state = self.step([NODE, script], variables, self.machine.checkout)
        kept = dict(line.split("=", 1) for line in state.splitlines())
        self.posts.append((action, {f"STATE_{n}": v for n, v in kept.items()}, variables))

    def finish(self, status: str = "success") -> str:
        """End the job; return what the post steps said."""
        said = ""
        for action, state, variables in reversed(self.posts):
            runs = yaml.safe_load((action / "action.yml").read_text())["runs"]
            if self.wanted(runs["post-if"], status):
                assert NODE
                command = [NODE, str(action / runs["post"])]
                done = self.machine.run(command, environment={**state, **variables})
                said += f"{done.stdout}{done.stderr}exit {done.returncode}"
        return said

    def wanted(self, condition: str, status: str) -> bool:
        variable = self.machine.environment.get("LONGSHORE_EXPORT_ON_FAILURE", "")
        python = condition.replace("||", "or").replace("&&", "and")
        python = python.replace("env.LONGSHORE_EXPORT_ON_FAILURE", "variable")
        names: dict[str, Any] = {
            "success": lambda: status == "success",
            "failure": lambda: status == "failure",
            "variable": variable,
            "__builtins__": {},
        }
        return bool(eval(python, names))


def fill(text: str, inputs: dict[str, str]) -> str:
    filled = re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda match: inputs[match[1]], text)
    assert "${{" not in filled
    return filled


@pytest.fixture
def runner(machine: Machine) -> Runner:
    return Runner(machine)


def test_longshore_is_installed_from_the_repository_of_the_action_by_hash(runner: Runner) -> None:
    runner.start(store="s3://my-bucket/cache")

    dependencies, itself = (call for call in runner.machine.calls if call.name == "pip")
    assert {"--require-hashes", "--no-deps"} <= set(dependencies.arguments)
    locks = [Path(word).resolve() for word in dependencies.arguments if word.endswith(".lock")]
    assert locks == [ROOT / "requirements-build.lock", ROOT / "requirements.lock"]
    assert all(lock.exists() for lock in locks)
    assert Path(itself.arguments[-1]).resolve() == ROOT
    assert "--no-index" in itself.arguments
    assert not (Path(runner.machine.environment["PATH"].split(":")[0]) / "python").exists()


def test_the_step_imports_and_later_ones_know_the_store(runner: Runner, playback: Playback) -> None:
    runner.start(store="s3://my-bucket/cache", services="web db")

    assert runner.machine.lines[-1] == "longshore import web db"
    assert runner.machine.environment["LONGSHORE_STORE"] == "s3://my-bucket/cache"
    assert "LONGSHORE_PROJECT" not in runner.machine.environment  # its variable would be overridden
    assert all(uses != "aws-actions/configure-aws-credentials@v4" for uses, _ in runner.used)


def test_an_action_without_store_leaves_the_jobs_own_one(runner: Runner) -> None:
    runner.machine.environment["LONGSHORE_STORE"] = "s3://other/cache"
    runner.start()

    assert runner.machine.environment["LONGSHORE_STORE"] == "s3://other/cache"
    assert runner.machine.lines[-1] == "longshore import"


def test_the_role_is_taken_before_anything_else_so_that_it_is_given_up_last(runner: Runner) -> None:
    arn = "arn:aws:iam::123456789012:role/longshore-shop-default"
    runner.start(store="s3://my-bucket/cache", role_to_assume=arn, aws_region="eu-west-1")

    (first, values), (last, _) = runner.used
    assert first == "aws-actions/configure-aws-credentials@v4"
    assert values == {
        "role-to-assume": arn,
        "role-duration-seconds": "3600",
        "aws-region": "eu-west-1",
    }
    assert last == "acme/longshore/docs/ci/github/export@main"


def test_import_and_export_can_be_left_out(runner: Runner) -> None:
    runner.start(**{"import": "false", "export": "false"})

    assert not any("longshore" in line.split()[0] for line in runner.machine.lines)
    assert runner.used == []


def test_the_names_of_the_action_are_those_of_its_folders() -> None:
    (step,) = (
        s for s in WORKFLOW["jobs"]["build"]["steps"] if s.get("uses", "").startswith("acme")
    )
    assert step["uses"] == "acme/longshore/docs/ci/github@main"
    assert set(step["with"]) <= set(yaml.safe_load(ACTION.read_text())["inputs"])
    runs = yaml.safe_load((ACTION.parent / "export/action.yml").read_text())["runs"]
    for script in (runs["main"], runs["post"]):
        assert (ACTION.parent / "export" / script).is_file()


@needs_node
def test_a_job_that_succeeds_exports_what_the_next_one_imports(
    runner: Runner, playback: Playback
) -> None:
    (runner.machine.checkout / "shop").mkdir()
    runner.start(store="s3://my-bucket/cache", services="web", working_directory="shop")
    for line in (s["run"] for s in WORKFLOW["jobs"]["build"]["steps"] if "run" in s):
        runner.step(["bash", "-ec", line], {}, runner.machine.checkout)
    assert runner.finish() == "exit 0"

    assert runner.machine.lines[-4:] == [
        "longshore import web",
        "longshore build --no-import --no-export",
        "docker compose run --rm web npm test",
        "longshore export web",
    ]
    directories = [c.directory.name for c in runner.machine.calls if c.name == "longshore"]
    assert directories == ["shop", "checkout", "shop"]
    assert "no cached image for web" in playback(runner.machine.calls)
    assert "hit from scope main" in playback(runner.machine.calls)


@needs_node
@pytest.mark.parametrize(
    ("status", "on_failure", "exports"),
    [
        ("success", "false", True),
        ("failure", "false", False),
        ("failure", "true", True),
        ("cancelled", "true", False),
    ],
)
def test_a_job_that_fails_exports_only_if_it_is_told_to(
    runner: Runner, status: str, on_failure: str, exports: bool
) -> None:
    runner.start(export_on_failure=on_failure)
    runner.finish(status)

    assert ("longshore export" in runner.machine.lines) == exports


@needs_node
def test_what_longshore_ends_with_counts_and_a_missing_longshore_is_a_warning(
    runner: Runner,
) -> None:
    runner.start()
    runner.machine.install("longshore", exit_code=2)
    assert runner.finish().endswith("exit 2")

    runner.machine.environment["PATH"] = "/usr/bin:/bin"
    said = runner.finish()
    assert "::warning::longshore exported nothing" in said
    assert said.endswith("exit 0")
