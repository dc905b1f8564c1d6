"""`longshore check` and `longshore stats`, from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import STEPS, Shell
from tests.support.fake_engine import FakeEngine


@pytest.fixture
def grown(shell: Shell) -> Shell:
    """Two services, exported twice."""
    for content in (b"one", b"two"):
        shell.engine = FakeEngine()
        shell.engine.build([*STEPS, ("COPY . .", {"app.js": content * 100})], "shop/web:1")
        shell.engine.build([*STEPS, ("COPY . .", {"job.js": content * 100})], "shop/api:1")
        assert shell("export") == 0
    shell.engine = FakeEngine()
    return shell


def objects(shell: Shell, kind: str) -> list[Path]:
    return sorted(path for path in shell.store.rglob(f"{kind}/**/*") if path.is_file())


def newest(shell: Shell, service: str) -> Path:
    return max(path for path in objects(shell, "entries") if f"/{service}/" in str(path))


def lose_newest(shell: Shell, service: str) -> Path:
    """Damage the newest entry of a service."""
    path = newest(shell, service)
    path.chmod(0o644)
    path.write_bytes(b"junk")
    return path


def result_of(document: dict[str, Any]) -> dict[str, Any]:
    (project,) = document["projects"]
    result: dict[str, Any] = project["result"]
    return result


def test_a_sound_cache_passes(grown: Shell) -> None:
    assert grown("check", "--read-data", "all") == 0

    assert grown.out.startswith("shop: nothing is damaged\n")
    assert "read     6 of 6 layers" in grown.out
    assert grown.err.startswith("checking: ")


def test_without_read_data_it_says_that_contents_were_not_read(grown: Shell) -> None:
    assert grown("check") == 0

    assert "--read-data" in grown.out


@pytest.mark.parametrize("share", ["10", "0.5", "some", "101%", "-1%"])
def test_a_share_that_is_none_is_wrong_usage(grown: Shell, share: str) -> None:
    assert grown("check", "--read-data", share) == 2
    assert "--read-data" in grown.err


def test_damage_is_named_with_what_it_costs_and_the_exit_code_is_4(grown: Shell) -> None:
    path = lose_newest(grown, "web")

    assert grown("check") == 4
    assert grown.out.startswith("shop: 1 object damaged or missing; 1 entry cannot be loaded\n")
    assert f"  file://{path}\n" in grown.out
    assert "costs web of scope main (linux-amd64): the newest entry\n" in grown.out
    document = grown.json("check")
    assert (document["ok"], document["exit_code"], document["error"]) == (True, 4, None)
    (damaged,) = result_of(document)["damaged"]
    assert damaged["url"] == f"file://{path}"
    assert damaged["costs"] == [
        {
            "scope": "main",
            "service": "web",
            "platform": "linux-amd64",
            "newest": True,
            "entries": 1,
        }
    ]


def test_only_older_entries_are_said_to_be_older(grown: Shell) -> None:
    older = min(path for path in objects(grown, "entries") if "/web/" in str(path))
    older.unlink()
    older.write_bytes(b"junk")

    assert grown("check") == 4
    assert "costs web of scope main (linux-amd64): only 1 older entry\n" in grown.out


def test_what_costs_many_is_cut_unless_verbose(grown: Shell) -> None:
    grown.engine.build([*STEPS, ("COPY . .", {"app.js": b"two" * 100})], "shop/web:1")
    for number in range(11):
        scopes = ("--scope", f"b{number}", "--fallback", "main")
        assert grown("export", "web", *scopes) == 0
    for path in objects(grown, "recipes"):
        path.unlink()

    assert grown("check") == 4
    assert "and 3 more; --verbose lists them" in grown.out
    assert grown("check", "--verbose") == 4
    assert "more; --verbose lists them" not in grown.out
    assert "costs web of scope b10 (linux-amd64): the newest entry\n" in grown.out


def test_repair_shows_what_is_damaged_and_what_goes_and_asks(grown: Shell) -> None:
    path = lose_newest(grown, "web")
    grown.answer = "y\n"

    assert grown("check", "--repair") == 0
    assert f"file://{path}" in grown.err
    assert f"remove  web of scope main (linux-amd64)  {path.name}" in grown.err
    assert grown.err.rstrip().endswith("Go on? [y/N]")
    assert grown.out.startswith("removed 1 entry")
    assert not path.exists()
    assert grown("check", "--read-data", "all") == 0


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_repair_that_is_declined_changes_nothing(grown: Shell, answer: str) -> None:
    path = lose_newest(grown, "web")
    grown.answer = answer

    assert grown("check", "--repair") == 4
    assert grown.out == "nothing was repaired\n"
    assert path.exists()
    assert not (grown.store / "shop/gc").exists()


def test_repair_with_nobody_to_ask_ends_before_it_begins(grown: Shell) -> None:
    path = lose_newest(grown, "web")

    assert grown("check", "--repair", "--read-data", "all") == 2
    assert "--yes" in grown.err
    assert "checking" not in grown.err
    assert path.exists()


def test_dry_run_shows_the_plan_and_changes_nothing(grown: Shell) -> None:
    path = lose_newest(grown, "web")

    assert grown("check", "--repair", "--dry-run") == 4
    older = min(p for p in objects(grown, "entries") if "/web/" in str(p)).name
    assert f"{path.name}  the newest; next is {older}; if this was a flush, it is undone" in (
        grown.out
    )
    assert grown.out.endswith("nothing was done: this was a dry run\n")
    assert path.exists()
    assert grown.json("check", "--repair", "--dry-run")["dry_run"] is True


def test_after_repair_with_yes_the_older_entry_is_imported(grown: Shell) -> None:
    lose_newest(grown, "web")
    assert grown.json("import", "web")["services"][0]["outcome"] == "miss"

    document = grown.json("check", "--repair", "--yes")

    assert (document["exit_code"], document["agreed"], document["repair"]) == (0, True, True)
    (lost,) = result_of(document)["lost"]
    hit = grown.json("import", "web")["services"][0]
    assert (hit["outcome"], hit["entry"]) == ("hit", lost["next"])


def test_repair_of_the_only_entry_leaves_a_clean_miss(grown: Shell) -> None:
    for path in objects(grown, "recipes"):
        path.unlink()

    assert grown("check", "--repair", "--yes") == 0
    assert "nothing is cached then" in grown.err
    assert grown("import", "web") == 0
    assert "no cached image for web\n" in grown.out


def test_nothing_to_repair_is_said(grown: Shell) -> None:
    assert grown("check", "--repair", "--yes") == 0
    assert grown.out.endswith("there is nothing to repair\n")
    assert not (grown.store / "shop/gc").exists()


def test_notes_of_prune_that_cannot_be_read_are_put_away(grown: Shell) -> None:
    assert grown("prune", "--keep-last", "1") == 0
    notes = objects(grown, "gc")
    assert notes
    for note in notes:
        note.write_bytes(b"junk")

    assert grown("check") == 4
    assert "costs no service; as long as it is there, prune deletes nothing" in grown.out
    assert grown("check", "--repair", "--yes") == 0
    assert str(notes[0]) in grown.err
    assert grown("check") == 0
    assert grown("prune") == 0


def test_a_project_that_is_not_there_is_not_a_sound_one(grown: Shell) -> None:
    for command in ("check", "stats"):
        assert grown(command, "--project", "nope") == 3
        assert "nothing is stored for the project nope" in grown.err


def test_all_projects_are_checked_and_repaired_at_once(grown: Shell) -> None:
    grown.engine.build([*STEPS, ("COPY . .", {"app.js": b"x"})], "shop/web:1")
    grown("export", "web", "--project", "other")
    lose_newest(grown, "api")
    (broken,) = objects(grown, "other/scopes/main/entries")
    broken.unlink()
    broken.write_bytes(b"junk")

    document = grown.json("check", "--all-projects")
    assert [one["project"] for one in document["projects"]] == ["other", "shop"]
    assert all(len(one["result"]["damaged"]) == 1 for one in document["projects"])
    assert grown("check", "--all-projects", "--repair", "--yes") == 0
    assert grown("check", "--all-projects") == 0
    assert [p["project"] for p in grown.json("stats", "--all-projects")["projects"]] == [
        "other",
        "shop",
    ]


def test_stats_add_up(grown: Shell) -> None:
    document = grown.json("stats")

    stats = result_of(document)
    stored = sum(path.stat().st_size for path in grown.store.rglob("*") if path.is_file())
    assert stats["stored_bytes"] == stats["referenced_bytes"] == stored
    assert stats["unreferenced_bytes"] == 0
    # Each image has layers of 20480, 71680 and 10240 bytes; two of them are newest ones.
    assert [one["logical_bytes"] for one in stats["services"]] == [81920, 81920]
    assert stats["logical_bytes"] == 2 * 81920
    assert stats["all_logical_bytes"] == 4 * 81920
    assert stats["deduplication"] > 3
    assert stats["compression"] > 10
    added = [one["added_bytes"] for service in stats["services"] for one in service["growth"]]
    assert sum(added) == stats["chunk_bytes"]
    assert [len(service["growth"]) for service in stats["services"]] == [2, 2]


def test_stats_are_a_table_for_people(grown: Shell) -> None:
    assert grown("stats") == 0

    head, scopes, main, total, services, api, web = grown.out.splitlines()
    assert head.startswith("shop: ")
    assert scopes.split()[:2] == ["SCOPE", "STORED"]
    assert main.split()[0] == "main"
    assert total.split()[0] == "(all)"
    assert services.split()[:3] == ["SCOPE", "SERVICE", "PLATFORM"]
    assert api.split()[:3] == ["main", "api", "linux-amd64"]
    assert web.split()[:3] == ["main", "web", "linux-amd64"]


def test_stats_say_what_they_could_not_read(grown: Shell) -> None:
    lose_newest(grown, "web")

    assert grown("stats") == 0
    assert "1 object could not be read or used; `longshore check` names them" in grown.out
    assert result_of(grown.json("stats"))["unreadable"] == 1
