"""`longshore prune`: its options, what it says, its codes, and that it does what it says."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import COMPOSE, Shell
from tests.cli.passing import later
from tests.cli.test_docs import TEXT, _fields, examples, shape
from tests.support.fake_engine import FakeEngine
from tests.support.refusing_store import RefusingStore

from longshore import cli_prune, config
from longshore.core.keys import segment
from longshore.store.contract import Store
from longshore.store.directory import DirectoryStore

BASE = ("FROM base", {"bin/sh": b"#!" * 3000})


def build(shell: Shell, version: int, service: str = "web", scope: str = "main") -> None:
    """Build and export a version of a service, of which only the base stays."""
    app = random.Random(version).randbytes(4000)
    shell.engine = FakeEngine()
    shell.engine.build([BASE, ("COPY . .", {"app": app})], f"shop/{service}:1")
    assert shell("export", service, "--scope", scope) == 0


def objects(shell: Shell) -> set[str]:
    """Name what is in the store but for prune's own notes, which are in no plan."""
    keys = {str(path.relative_to(shell.store)) for path in shell.store.rglob("*") if path.is_file()}
    return {key for key in keys if "/gc/" not in key}


def everything(shell: Shell) -> dict[str, tuple[bytes, int]]:
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in shell.store.rglob("*")
        if path.is_file()
    }


def plan_of(document: dict[str, Any]) -> dict[str, Any]:
    (project,) = document["projects"]
    assert project["error"] is None
    plan: dict[str, Any] = project["plan"]
    return plan


def listed(plan: dict[str, Any], project: str = "shop") -> set[str]:
    """Collect the keys of all that a plan says is removed or deleted."""
    keys = {
        "/".join(
            (
                project,
                "scopes",
                segment(r["scope"]),
                "entries",
                r["service"],
                r["platform"],
                r["id"],
            )
        )
        for r in plan["removals"]
    }
    if plan["deleted"] is not None:
        keys |= {*plan["deleted"]["recipes"], *plan["deleted"]["packs"]}
    return keys


@pytest.fixture(scope="module")
def long_used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("used")
    shell = Shell(folder, {"LONGSHORE_STORE": f"file://{folder}/store", "LONGSHORE_SCOPE": "main"})
    shell.write("compose.yaml", COMPOSE)
    build(shell, 1, scope="pr:1")
    build(shell, 6, scope="pr:2")
    later(shell.store, hours=20 * 24)
    build(shell, 2)
    build(shell, 3, "api")
    shell.write("open", "pr:1")
    later(shell.store, hours=15 * 24)
    build(shell, 4)
    for _ in range(2):
        assert shell("prune", "--repack-below", "0", "--branches-from", "open") == 0
        later(shell.store, hours=1)
    later(shell.store, hours=25)
    build(shell, 5)
    key = "shop/scopes/main/packs/019424f8-632e-7001-8203-040506070809"
    asyncio.run(DirectoryStore(shell.store).create_upload(key))
    later(shell.store, hours=25)
    return shell.store


@pytest.fixture
def used(shell: Shell, long_used: Path) -> Shell:
    """A project in use for weeks: old entries, an idle scope, marks, and an upload that died."""
    shutil.copytree(long_used, shell.store)
    return shell


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--keep-last", "2"],
        ["--keep-within", "2d"],
        ["--gone-after", "30d"],
        ["--gone-after", "10d", "--protect", "main"],
        ["--max-size", "4kB", "--protect", "pr:1"],
        ["--max-size", "0"],
        ["--repack-below", "0"],
        ["--repack-below", "100%"],
        ["--grace", "0", "--force"],
        ["--grace", "2d", "--all-projects"],
        ["--branches-from", "list"],
    ],
)
def test_nothing_is_deleted_that_the_dry_run_right_before_did_not_list(
    used: Shell, options: list[str]
) -> None:
    used.write("list", "main\npr:2\n")
    before, all_before = objects(used), everything(used)

    said = plan_of(used.json("prune", "--dry-run", *options))
    assert everything(used) == all_before
    done = plan_of(used.json("prune", *options))

    assert before - objects(used) == listed(said) | {
        path for path in before if path.startswith(".longshore-tmp/") and said["aborted"]
    }
    assert said["deleted"]["recipes"]
    assert said["deleted"]["packs"]
    assert listed(done) == listed(said)
    ages = ("age_seconds",)
    for plan in (said, done):
        plan["removals"] = [
            {name: value for name, value in removal.items() if name not in ages}
            for removal in plan["removals"]
        ]
    assert done == said


def test_dry_run_says_what_goes_and_that_nothing_was_done(used: Shell) -> None:
    assert used("prune", "--dry-run", "--gone-after", "30d") == 0

    head, columns, *rows = used.out.splitlines()
    assert head == "shop: 2 entries to remove"
    assert columns.split() == ["SCOPE", "SERVICE", "PLATFORM", "AGE", "ENTRY", "REASON"]
    gone, excess = (re.split(r"  +", row.strip()) for row in rows[:2])
    assert gone[:4] == ["pr:1", "web", "linux-amd64", "37 days"]
    assert gone[5] == "nobody has used the scope for 37 days"
    assert excess[:4] == ["main", "web", "linux-amd64", "2 days"]
    assert excess[5] == "older than the newest 1"
    assert "  to delete   3 recipes and 1 pack, " in used.out
    assert "  to rewrite  " in used.out
    assert "  to abort    1 unfinished upload\n" in used.out
    assert used.out.endswith("\n\nnothing was done: this was a dry run\n")


def test_a_run_says_what_it_did_and_what_stays(used: Shell) -> None:
    assert used("prune", "--repack-below", "0") == 0

    assert used.out.startswith("shop: 1 entry removed\n")
    assert "  deleted  " in used.out
    assert "  aborted  1 unfinished upload\n" in used.out
    assert "  later    what only the removed entries needed: 24h after the next run" in used.out
    assert re.search(r"  kept     3 entries, \d+\.\d kB\n", used.out)
    assert "dry run" not in used.out
    assert used.err == ""


def test_what_waits_is_said_with_its_size_and_since_when(shell: Shell) -> None:
    build(shell, 1)
    build(shell, 2)
    shell("prune")
    later(shell.store, hours=1)
    shell("prune", "--repack-below", "0")
    assert re.search(
        r"waiting  1 recipe and 1 pack, 4\.\d kB; no earlier run has found them unreferenced",
        shell.out,
    )
    later(shell.store, hours=5)
    shell("prune", "--repack-below", "0")
    assert re.search(r"waiting  .*; unreferenced since \d{4}-\d\d-\d\d \d\d:\d\d UTC or", shell.out)

    document = shell.json("prune", "--dry-run")
    waiting = plan_of(document)["waiting"]
    assert waiting["since"].endswith("Z")
    assert len(waiting["recipes"]) == 1
    assert waiting["bytes"] > 0


def removed(shell: Shell, *options: str) -> list[tuple[str, str]]:
    plan = plan_of(shell.json("prune", "--dry-run", *options))
    return sorted((removal["scope"], removal["service"]) for removal in plan["removals"])


def test_each_rule_of_retention_can_be_set(shell: Shell) -> None:
    build(shell, 1, scope="pr:1")
    later(shell.store, hours=40 * 24)
    for version in (2, 3, 4):
        build(shell, version)
        later(shell.store, hours=5 * 24)

    assert removed(shell) == [("main", "web")] * 2
    assert removed(shell, "--keep-last", "2") == [("main", "web")]
    assert removed(shell, "--keep-within", "11d") == [("main", "web")]
    assert removed(shell, "--keep-within", "16d") == []
    gone = ("--gone-after", "30d")
    assert removed(shell, *gone) == [("main", "web")] * 2 + [("pr:1", "web")]
    assert removed(shell, *gone, "--protect", "pr:1") == [("main", "web")] * 2
    assert removed(shell, "--max-size", "5kB") == [("main", "web")] * 3
    assert removed(shell, "--max-size", "5kB", "--protect", "main") == [
        *[("main", "web")] * 2,
        ("pr:1", "web"),
    ]
    assert removed(shell, "--max-size", "1GB") == [("main", "web")] * 2


def test_variables_and_the_file_set_rules_too(shell: Shell) -> None:
    for version in (1, 2, 3):
        build(shell, version)
    shell.write("longshore.toml", 'keep-last = 2\ngone-after = "30d"\nprotect = ["main"]\n')

    assert removed(shell) == [("main", "web")]
    shell.environment["LONGSHORE_KEEP_LAST"] = "3"
    assert removed(shell) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep-last", "0"], "--keep-last: expected a whole number from 1 to 10000"),
        (["--keep-within", "14"], "--keep-within: '14' has no unit"),
        (["--gone-after", "0d"], "--gone-after: '0d' is out of range"),
        (["--max-size", "much"], "--max-size: 'much' is not a size"),
        (["--repack-below", "50"], "--repack-below: '50' is not a share"),
        (["--protect", ".."], "--protect: '..' cannot be used as a name"),
        (["--grace", "1h"], "safe only if no import or export takes longer than 30m"),
        (["--grace", "0"], "no import or export, and no other prune, runs meanwhile"),
        (["--all-projects", "--project", "x"], "--project names one project"),
        (["--branches-from", "nowhere"], "nowhere: No such file or directory"),
        (["web"], "unexpected extra argument"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    used: Shell, options: list[str], message: str
) -> None:
    before = everything(used)

    assert used("prune", *options) == 2
    assert message in used.err
    assert len(used.err.splitlines()) == 1
    assert everything(used) == before


@pytest.mark.parametrize(
    ("grace", "assumed"),
    [
        ("2h", "with --grace 2h it is assumed that no import or export takes longer than 1h"),
        ("0", "with --grace 0s it is assumed that no import or export, and no other prune, runs"),
    ],
)
def test_a_shorter_grace_period_takes_force_and_says_what_is_assumed(
    used: Shell, grace: str, assumed: str
) -> None:
    assert used("prune", "--grace", grace, "--force") == 0
    assert f"warning: {assumed}" in used.err


def test_a_longer_grace_period_takes_nothing(used: Shell) -> None:
    document = used.json("prune", "--grace", "3d", "--repack-below", "0")

    assert document["ok"]
    assert plan_of(document)["deleted"]["recipes"] == []
    assert used.err == ""


def test_packs_are_rewritten_as_the_share_says(shell: Shell) -> None:
    build(shell, 1)
    build(shell, 2)

    plan = plan_of(shell.json("prune", "--dry-run", "--repack-below", "0"))
    assert plan["rewritten"]["packs"] == []
    plan = plan_of(shell.json("prune"))
    assert len(plan["rewritten"]["packs"]) == 1
    assert plan["rewritten"]["freed_bytes"] > 4000
    shell.engine = FakeEngine()
    assert shell("import", "web", "--strict") == 0


def test_unfinished_uploads_are_aborted(used: Shell) -> None:
    (aborted,) = plan_of(used.json("prune"))["aborted"]
    assert aborted["key"].startswith("shop/scopes/main/packs/")

    assert plan_of(used.json("prune"))["aborted"] == []


def test_where_uploads_may_not_be_listed_all_the_rest_is_done(used: Shell) -> None:
    used.wrap = lambda store: RefusingStore(store, refuses=lambda op, _: op == "list_uploads")

    assert used("prune") == 0
    assert "unfinished uploads are left to the bucket's lifecycle rules: " in used.err
    assert "shop: 1 entry removed" in used.out


def test_a_document_that_nobody_can_read_stops_deleting_and_is_an_error(used: Shell) -> None:
    (entry,) = used.store.glob("shop/scopes/main/entries/api/linux-amd64/*")
    entry.write_bytes(b"nonsense")

    for options in (["--dry-run"], []):
        assert used("prune", *options) == 4
        assert "  not deleted  nothing, as long as this is so: " in used.out
        assert f"warning: file://{entry}: " in used.err
    plan = plan_of(used.json("prune"))
    assert plan["deleted"] is None
    assert plan["waiting"] is None
    assert str(entry) in plan["blocked"][0]


def test_a_project_that_is_not_there_is_a_miss_and_nothing_is_written(used: Shell) -> None:
    before = everything(used)

    assert used("prune", "--project", "shoop") == 3
    assert "error: nothing is stored for the project shoop in file://" in used.err
    assert everything(used) == before


def test_neither_services_file_nor_scope_is_needed(used: Shell, tmp_path: Path) -> None:
    used.directory = tmp_path / "cron"
    used.directory.mkdir()
    del used.environment["LONGSHORE_SCOPE"]
    used.environment["LONGSHORE_STORE"] = f"file://{tmp_path}/store"

    assert used("prune", "--project", "shop") == 0
    assert used.out.startswith("shop: 1 entry removed")
    assert used("prune", "--all-projects") == 0


# All projects


@pytest.fixture
def several(shell: Shell) -> Shell:
    """Three projects, of which one has a name too long to read back, and what is no project."""
    for name in ("zoo/b", "shop", "long" * 60):
        shell.environment["LONGSHORE_PROJECT"] = name
        build(shell, 1)
        build(shell, 2)
    (shell.store / "backups/2026").mkdir(parents=True)
    (shell.store / "backups/2026/file").write_bytes(b"somebody else's")
    del shell.environment["LONGSHORE_PROJECT"]
    return shell


def test_all_projects_are_pruned_and_what_is_none_is_left_alone(several: Shell) -> None:
    assert several("prune", "--all-projects") == 2

    assert re.findall(r"^(\S+): 1 entry removed$", several.out, re.MULTILINE) == ["shop", "zoo/b"]
    assert re.search(r"^2 projects: 2 entries removed, 0 B deleted, ", several.out, re.MULTILINE)
    (warning,) = several.err.splitlines()
    assert warning.startswith("warning: file://")
    assert (
        "has a name that is cut, so it is left out; prune it by itself, with --project" in warning
    )
    assert (several.store / "backups/2026/file").exists()
    assert not (several.store / "backups/gc").exists()

    assert several("prune", "--project", "long" * 60) == 0
    assert "1 entry removed" in several.out


def test_a_project_that_fails_does_not_stop_the_others(several: Shell) -> None:
    several.wrap = lambda store: RefusingStore(store, refuses=lambda _, key: key == "shop/scopes/")

    document = several.json("prune", "--all-projects", "--dry-run")
    assert (document["ok"], document["exit_code"]) == (True, 6)
    shop, zoo = document["projects"]
    assert (shop["project"], shop["plan"]) == ("shop", None)
    assert shop["error"]["error"] == "AccessDenied"
    assert (zoo["project"], zoo["error"]) == ("zoo/b", None)
    assert len(zoo["plan"]["removals"]) == 1
    assert any(w["message"].startswith("shop: file://") for w in document["warnings"])

    assert several("prune", "--all-projects") == 6
    assert "shop: not pruned: file://" in several.out
    assert "zoo/b: 1 entry removed" in several.out
    assert "1 project, and 1 that failed: 1 entry removed" in several.out


def test_one_project_that_fails_is_a_failure(several: Shell) -> None:
    several.wrap = lambda store: RefusingStore(store, refuses=lambda _, key: key == "shop/scopes/")

    document = several.json("prune")
    assert (document["ok"], document["exit_code"]) == (False, 6)
    assert document["error"]["error"] == "AccessDenied"


def test_projects_that_may_not_be_listed_are_an_error(several: Shell) -> None:
    several.wrap = lambda store: RefusingStore(store, refuses=lambda _, key: key == "")

    assert several("prune", "--all-projects") == 6
    assert len(several.err.splitlines()) == 1


def test_a_store_without_projects_has_nothing_to_prune(shell: Shell) -> None:
    shell.store.mkdir()

    assert shell("prune", "--all-projects") == 0
    assert shell.out == f"file://{shell.store} has no project\n"


# Time


def hanging(store: Store) -> Store:
    return RefusingStore(store, refuses=lambda _, key: key == "shop/gc/", hangs=True)


def test_each_project_may_take_a_quarter_of_the_grace_period(
    several: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert timedelta(hours=6) == config.PRUNE_TIMEOUT
    monkeypatch.setattr(cli_prune, "PRUNE_TIMEOUT", timedelta(seconds=0.3))
    several.wrap = hanging

    assert several("prune", "--all-projects") == 6
    assert "shop: prune of shop did not end within 0.3s; if it needs longer, raise" in several.err
    assert "zoo/b: 1 entry removed" in several.out


def test_a_timeout_that_was_given_counts(used: Shell) -> None:
    used.wrap = hanging

    assert used("prune", "--timeout", "0.3s") == 6
    assert "prune of shop did not end within 0.3s" in used.err


def test_the_documented_example_has_the_fields_of_real_output(used: Shell) -> None:
    real = used.json("prune", "--dry-run", "--gone-after", "30d")

    assert shape(examples()["prune"]) == shape(real)
    section = TEXT.partition("### prune\n")[2].partition("```json")[0]
    common = TEXT.partition("All documents have:")[2].partition("If `ok` is false")[0]
    for name in _fields(real):
        assert re.search(rf"`[^`]*\b{name}\b[^`]*`", section + common), name


def test_on_an_s3_server_a_flush_hides_and_a_prune_frees_what_it_listed(on_s3: Shell) -> None:
    assert on_s3("export") == 0
    on_s3.engine.build([BASE, ("COPY . .", {"app": b"another"})], "shop/web:1")
    assert on_s3("export", "web") == 0
    said = plan_of(on_s3.json("prune", "--dry-run", "--all-projects"))
    assert len(said["removals"]) == 1
    done = plan_of(on_s3.json("prune", "--all-projects"))
    assert listed(done) == listed(said)

    assert on_s3("flush", "web", "--yes") == 0
    on_s3.engine = FakeEngine()
    assert on_s3("import", "web") == 0
    assert "no cached image for web\n" in on_s3.out

    document = on_s3.json("flush", "--now", "--force", "--yes")
    assert document["swept"]["deleted"]["packs"]
    assert document["swept"]["blocked"] == []
    after = plan_of(on_s3.json("prune", "--dry-run"))
    assert (after["deleted"]["packs"], after["waiting"]["packs"], after["kept_bytes"]) == (
        [],
        [],
        0,
    )
