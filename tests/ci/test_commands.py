"""Each line of a recipe that calls longshore is one that longshore knows; scripts are sound."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.ci.conftest import CI

FILES = sorted(path for path in CI.rglob("*") if path.is_file())
README = (CI / "README.md").read_text()
COMMAND = re.compile(r"(?:^|[\s`'\"(=/-])longshore ((?:[a-z][a-z-]+)(?: [^\n`'\"|;&#()]*)?)", re.M)
# Until these commands and flags are there. Once they are, they are asked, and this table is not.
TO_COME = {
    "export": {"--no-sidecar"},
    "serve": {"--ready-timeout", "--shutdown-timeout", "--log-format"},
    "wait": {"--timeout", "--live"},
}


@cache
def command_line() -> Any:
    from typer.main import get_command

    from longshore.cli_commands import app

    return get_command(app)


def names() -> set[str]:
    return {*command_line().commands, *TO_COME}


def parse(arguments: list[str]) -> None:
    """Have longshore's own parser read a command, and do nothing.

    Raises:
        Exception: it does not understand it.
    """
    name, *rest = arguments
    if name not in command_line().commands:
        flags = {word for word in rest if word.startswith("-")}
        assert flags <= TO_COME[name], flags
        return
    command = command_line().commands[name]
    known = {flag for option in command.params for flag in option.opts + option.secondary_opts}
    rest = [word for word in rest if word not in TO_COME.get(name, set()) - known]
    parent = command_line().make_context("longshore", [name])
    command.make_context(name, rest, parent=parent)


def in_text(text: str) -> Iterator[list[str]]:
    """Find the commands of scripts, units and prose."""
    for match in COMMAND.finditer(text):
        words = shlex.split(match[1])
        if words[0] in names():
            yield words


def in_lists(value: object) -> Iterator[list[str]]:
    """Find the commands that are lists of words: of containers, health checks and probes."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name != "profiles":
                yield from in_lists(item)
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        words = value[1:] if value[:1] == ["CMD"] else value
        words = words[1:] if words[:1] == ["longshore"] else words
        if words and words[0] in names():
            yield words
    elif isinstance(value, list):
        for item in value:
            yield from in_lists(item)


def commands(path: Path) -> list[list[str]]:
    text = path.read_text()
    found = list(in_text(text))
    if path.suffix in (".yml", ".yaml"):
        found += in_lists(yaml.safe_load(text))
    return found


# How many commands each file has, so that none is overlooked.
EXPECTED = {
    "compose/sidecar.yaml": {"serve": 1, "wait": 1, "build": 1},
    "kubernetes/pod.yaml": {"serve": 1, "wait": 2, "build": 1},
    "systemd/longshore.service": {"serve": 1, "wait": 1},
    "github/action.yml": {"import": 1},
    "github/workflow.yml": {"build": 1},
    "gitlab/longshore.gitlab-ci.yml": {"import": 1, "export": 1},
    "gitlab/example.gitlab-ci.yml": {"build": 1},
    "buildkite/hooks/pre-command": {"import": 2},  # once in what it says
    "buildkite/hooks/post-command": {"export": 2},
    "buildkite/pipeline.yml": {"build": 1},
    "jenkins/Jenkinsfile": {"import": 1, "build": 1, "export": 1},
    "codeship/before": {"import": 1, "build": 1},
    "codeship/after": {"export": 1},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_commands_of_a_recipe_are_parsed(name: str) -> None:
    found = commands(CI / name)

    counts: dict[str, int] = {}
    for words in found:
        counts[words[0]] = counts.get(words[0], 0) + 1
        parse(words)
    assert counts == EXPECTED[name]


def test_the_commands_of_the_page_are_parsed() -> None:
    found = list(in_text(README))

    assert {"serve", "wait", "build", "import", "export", "credentials"} <= {w[0] for w in found}
    for words in found:
        parse(words)


@pytest.mark.parametrize("wrong", [["import", "--quick"], ["build", "--store"], ["wait", "--now"]])
def test_a_command_with_a_mistake_would_be_found(wrong: list[str]) -> None:
    with pytest.raises(Exception, match=r"No such option|requires an argument|--now"):
        parse(wrong)


def test_options_in_the_environment_are_options() -> None:
    from longshore.config_options import CONFIG, OPTIONS

    # What the recipes themselves use, and pass to nobody.
    own = {"LONGSHORE_EXPORT_ON_FAILURE", "LONGSHORE_ROLES", "LONGSHORE_ID_TOKEN"}
    known = {option.variable for option in (*OPTIONS, CONFIG)}
    for path in FILES:
        if path.name != "Dockerfile":
            said = set(re.findall(r"(?<![A-Z_])LONGSHORE_[A-Z_]*[A-Z]\b", path.read_text()))
            assert said <= known | own, path
    assert not own & known  # an option of that name would be set by accident


def test_the_page_names_each_file_and_nothing_that_is_not_there() -> None:
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", README)}
    linked = {(CI / link).resolve() for link in links if link}

    assert all(path.exists() for path in linked)
    assert set(FILES) - linked == {CI / "README.md"}


def test_links_to_sections_lead_somewhere() -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", README):
        text = (CI / target).read_text() if target else README
        titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
        assert anchor in slugs, (target, anchor)


# Scripts


def scripts() -> Iterator[tuple[str, str, str]]:
    """All scripts, with their shells: files, and what stands in YAML and Groovy."""
    for name in ("buildkite/hooks/pre-command", "buildkite/hooks/post-command"):
        yield name, "bash", (CI / name).read_text()
    for name in ("codeship/before", "codeship/after"):
        yield name, "bash", (CI / name).read_text()
    for step in yaml.safe_load((CI / "github/action.yml").read_text())["runs"]["steps"]:
        if "run" in step:
            yield f"github: {step['name']}", "bash", step["run"]
    job = yaml.safe_load((CI / "gitlab/longshore.gitlab-ci.yml").read_text())[".longshore"]
    yield "gitlab before", "sh", "\n".join(job["before_script"])
    yield "gitlab after", "sh", "\n".join(job["after_script"])
    groovy = (CI / "jenkins/Jenkinsfile").read_text()
    for number, found in enumerate(re.findall(r"'''(.*?)'''", groovy, re.DOTALL)):
        yield f"jenkins {number}", "sh", found


@pytest.mark.parametrize(("name", "shell", "script"), list(scripts()), ids=lambda text: text[:30])
def test_shellcheck_finds_nothing_in_a_script(name: str, shell: str, script: str) -> None:
    checker = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run(
        [checker, "--norc", f"--shell={shell}", "-"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    assert done.returncode == 0


@pytest.mark.parametrize("path", [path for path in FILES if not path.suffix], ids=lambda p: p.name)
def test_a_file_that_is_run_is_executable(path: Path) -> None:
    is_script = path.read_text().startswith("#!")
    assert os.access(path, os.X_OK) == is_script
