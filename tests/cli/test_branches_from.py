"""`prune --branches-from`: real repositories, files, standard input; and all that may go wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from tests.cli.conftest import COMPOSE, STEPS, Shell
from tests.cli.passing import later

from longshore import surroundings_git
from longshore.config_secrets import without_secrets

SCOPES = ("main", "feature/x", "old", "pr:17", "tag:v1", "tag:v2")


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    done = subprocess.run(
        ["git", *identity, *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"},
    )
    return done.stdout


@pytest.fixture(scope="module")
def exported_by_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which several branches, a pull request and tags have exported."""
    folder = tmp_path_factory.mktemp("cached")
    shell = Shell(folder, {"LONGSHORE_STORE": f"file://{folder}/store"})
    shell.write("compose.yaml", COMPOSE)
    shell.engine.build(STEPS, "shop/web:1")
    for scope in SCOPES:
        assert shell("export", "web", "--scope", scope) == 0
    return shell.store


@pytest.fixture
def cached(shell: Shell, exported_by_all: Path) -> Shell:
    """What all of them have exported, two days ago."""
    shutil.copytree(exported_by_all, shell.store)
    later(shell.store, hours=48)
    shell.engine.build(STEPS, "shop/web:1")
    return shell


@pytest.fixture
def remote(cached: Shell, tmp_path: Path) -> Path:
    """A bare repository with some of the branches and tags, cloned into the working directory."""
    bare = tmp_path / "remote.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    git(cached.directory, "init", "--quiet", "--initial-branch=main")
    git(cached.directory, "commit", "--quiet", "--allow-empty", "-m", "one")
    git(cached.directory, "remote", "add", "origin", str(bare))
    git(cached.directory, "tag", "v1")
    git(cached.directory, "push", "--quiet", "origin", "main", "main:feature/x", "v1")
    git(cached.directory, "branch", "old")  # here only: the remote has it no more
    return bare


def gone(shell: Shell, *more: str) -> set[str]:
    document = shell.json("prune", "--dry-run", *more)
    assert document["ok"], shell.err
    (project,) = document["projects"]
    removals = project["plan"]["removals"]
    return {r["scope"] for r in removals if r["reason"] == "the branch is gone"}


def test_scopes_whose_branch_or_tag_the_remote_does_not_have_are_gone(
    cached: Shell, remote: Path
) -> None:
    assert gone(cached, "--branches-from", "git") == {"old", "tag:v2"}
    assert "4 scopes exist" not in cached.err
    assert "3 scopes exist, says git" in cached.err

    assert cached("prune", "--branches-from", "git") == 0
    left = {path.name for path in (cached.store / "shop/scopes").iterdir()}
    assert {"main", "feature~2Fx", "pr~3A17", "tag~3Av1"} <= left


def test_a_branch_that_was_pushed_a_moment_ago_is_not_gone_yet(cached: Shell, remote: Path) -> None:
    cached("export", "web", "--scope", "old")

    assert gone(cached, "--branches-from", "git") == {"tag:v2"}


def test_a_protected_scope_is_never_gone(cached: Shell, remote: Path) -> None:
    assert gone(cached, "--branches-from", "git", "--protect", "old") == {"tag:v2"}


def test_the_repository_itself_counts_if_it_has_no_remote(cached: Shell, remote: Path) -> None:
    git(cached.directory, "remote", "remove", "origin")

    assert gone(cached, "--branches-from", "git") == {"feature/x", "tag:v2"}


def test_a_bare_repository_is_asked_for_its_own_branches(cached: Shell, remote: Path) -> None:
    cached.environment["GIT_CEILING_DIRECTORIES"] = ""
    cached.environment["LONGSHORE_PROJECT"] = "shop"
    cached.directory = remote

    assert gone(cached, "--branches-from", "git") == {"old", "tag:v2"}


def test_a_repository_that_came_by_a_url_may_not_have_all_branches(
    cached: Shell, remote: Path
) -> None:
    git(cached.directory, "fetch", "--quiet", str(remote), "main")
    git(cached.directory, "remote", "remove", "origin")

    assert cached("prune", "--branches-from", "git") == 2
    assert "may have some of the branches only" in cached.err


def test_a_shallow_repository_without_a_remote_is_not_asked(cached: Shell, remote: Path) -> None:
    clone = cached.directory / "clone"
    git(cached.directory, "clone", "--quiet", "--depth=1", f"file://{remote}", str(clone))
    git(clone, "remote", "remove", "origin")
    (clone / ".git/FETCH_HEAD").unlink(missing_ok=True)
    cached.directory, cached.environment["LONGSHORE_PROJECT"] = clone, "shop"

    assert cached("prune", "--branches-from", "git") == 2
    assert "may have some of the branches only" in cached.err


def test_another_remote_than_origin_has_to_be_asked_by_hand(cached: Shell, remote: Path) -> None:
    git(cached.directory, "remote", "rename", "origin", "upstream")

    assert cached("prune", "--branches-from", "git") == 2
    assert "git ls-remote --heads upstream | longshore prune --branches-from -" in cached.err

    refs = git(cached.directory, "ls-remote", "--heads", "upstream")
    cached.answer = refs
    assert gone(cached, "--branches-from", "-") == {"old"}


def test_a_remote_that_cannot_be_reached_is_an_error_and_nothing_is_gone(
    cached: Shell, remote: Path
) -> None:
    remote.rename(remote.with_name("moved.git"))
    before = sorted(cached.store.rglob("*"))

    assert cached("prune", "--branches-from", "git") == 2
    assert "error: branches cannot be told: git ls-remote failed: " in cached.err
    assert sorted(cached.store.rglob("*")) == before


def test_a_remote_without_branches_is_an_error(cached: Shell, remote: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare", str(tmp_path / "empty.git"))
    git(cached.directory, "remote", "set-url", "origin", str(tmp_path / "empty.git"))

    assert cached("prune", "--branches-from", "git") == 2
    assert "the remote origin names no branch, so none is taken to be gone" in cached.err


def test_no_repository_and_no_git_are_errors(cached: Shell) -> None:
    assert cached("prune", "--branches-from", "git") == 2
    assert "not a git repository" in cached.err

    cached.environment["PATH"] = "/nowhere"
    assert cached("prune", "--branches-from", "git") == 2
    assert "branches cannot be told: git: No such file" in cached.err


def fake_git(shell: Shell, script: str) -> None:
    folder = shell.directory / "bin"
    folder.mkdir()
    (folder / "git").write_text(f"#!{sys.executable}\n{script}")
    (folder / "git").chmod(0o755)
    shell.environment["PATH"] = f"{folder}:{shell.environment['PATH']}"


def test_a_secret_in_the_remotes_url_is_not_repeated(cached: Shell) -> None:
    fake_git(
        cached,
        "import sys\n"
        "if sys.argv[1] == 'remote': print('origin'); sys.exit()\n"
        "sys.exit(\"fatal: unable to access 'https://ci:hunter2@git.example.com/shop/': 403\")\n",
    )

    assert cached("prune", "--branches-from", "git") == 2
    assert "https://…@git.example.com/shop/" in cached.err
    assert "hunter2" not in cached.err


def test_git_that_does_not_end_is_ended_with_all_that_it_started(
    cached: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings_git, "GIT_REMOTE_TIMEOUT", timedelta(seconds=0.6))
    held = cached.directory / "held"
    os.mkfifo(held)
    reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    fake_git(
        cached,
        "import os, subprocess\n"
        f"writer = os.open({str(held)!r}, os.O_WRONLY)\n"
        "subprocess.run(['sleep', '3600'], pass_fds=[writer])\n",
    )

    assert cached("prune", "--branches-from", "git") == 2
    assert "git remote did not end within 0.6s" in cached.err
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""  # nobody holds the other end any more
    os.close(reader)


def test_git_gets_no_secret_of_longshore(cached: Shell) -> None:
    cached.environment["LONGSHORE_SIGNING_KEY"] = "-----BEGIN PRIVATE KEY-----"
    fake_git(
        cached,
        "import os, sys\n"
        "sys.exit('seen' if 'LONGSHORE_SIGNING_KEY' in os.environ else 'fatal: not seen')\n",
    )
    assert "LONGSHORE_SIGNING_KEY" not in without_secrets(cached.environment)

    assert cached("prune", "--branches-from", "git") == 2
    assert "fatal: not seen" in cached.err


def test_a_file_lists_the_scopes_that_there_are(cached: Shell) -> None:
    cached.write("branches", "# kept by hand\nmain\nfeature/x\npr:18\n")

    assert gone(cached, "--branches-from", "branches") == {"old", "pr:17"}


def test_a_kind_that_the_list_does_not_name_is_not_judged_by_it(cached: Shell) -> None:
    cached.write("branches", "main\nfeature/x\nold\n")

    assert gone(cached, "--branches-from", "branches") == set()


def test_standard_input_is_a_list_too(cached: Shell) -> None:
    cached.answer = "main\nold\n"

    assert gone(cached, "--branches-from", "-") == {"feature/x"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "names no scope, so none is taken to be gone"),
        (b"# main\n", "names no scope, so none is taken to be gone"),
        (b"* main\n", "line 1: '* main' is not the name of one scope"),
        (b"main\xff\n", "it is no text in UTF-8"),
        (None, "No such file or directory"),
        (
            b"someone-elses\n",
            "none of the project's 3 scopes of branches, such as feature/x, is on",
        ),
    ],
)
def test_a_list_that_cannot_be_relied_on_is_an_error_and_nothing_is_gone(
    cached: Shell, content: bytes | None, message: str
) -> None:
    if content is not None:
        (cached.directory / "branches").write_bytes(content)
    before = sorted(cached.store.rglob("*"))

    assert cached("prune", "--branches-from", "branches") == 2
    assert message in cached.err
    assert sorted(cached.store.rglob("*")) == before


def test_a_list_longer_than_any_is_not_read_in_part(
    cached: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings_git, "_MAX_LIST_BYTES", 20)
    cached.write("branches", "main\n" * 5)
    assert cached("prune", "--branches-from", "branches") == 2
    assert "larger than any list" in cached.err

    cached.answer = "main\n" * 5
    assert cached("prune", "--branches-from", "-") == 2
    assert "larger than any list" in cached.err


def test_without_standard_input_there_is_no_list(cached: Shell) -> None:
    assert cached("prune", "--branches-from", "-") == 2
    assert "there is no standard input" in cached.err


def test_force_takes_the_word_that_all_branches_are_gone(cached: Shell) -> None:
    cached.write("branches", "someone-elses\n")

    assert gone(cached, "--branches-from", "branches", "--force") == {"main", "feature/x", "old"}


def test_a_list_is_of_one_project_only(cached: Shell) -> None:
    assert cached("prune", "--all-projects", "--branches-from", "git") == 2
    assert "--branches-from tells the branches of one project" in cached.err
