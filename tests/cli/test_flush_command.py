"""`longshore flush`: what it hides, from whom, whom it asks, and what the next import says."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from tests.cli.conftest import STEPS, Shell
from tests.cli.passing import later
from tests.cli.test_docs import TEXT, _fields, examples, shape
from tests.support.fake_engine import FakeEngine
from tests.support.refusing_store import RefusingStore

from longshore.core.envelope import unseal
from longshore.store.directory import DirectoryStore


def export(shell: Shell, version: bytes, *names: str, scope: str = "main") -> None:
    shell.engine = FakeEngine()
    for name in ("web", "api"):
        shell.engine.build([*STEPS, ("COPY . .", {"app.js": version})], f"shop/{name}:1")
    assert shell("export", *names, "--scope", scope) == 0
    shell.engine = FakeEngine()


def outcomes(shell: Shell, *options: str) -> dict[str, str]:
    shell.engine = FakeEngine()
    document = shell.json("import", *options)
    return {service["service"]: service["outcome"] for service in document["services"]}


def files(shell: Shell, kind: str = "scopes") -> set[Path]:
    return {path for path in shell.store.rglob("*") if path.is_file() and f"/{kind}/" in str(path)}


@pytest.fixture
def cached(shell: Shell) -> Shell:
    """Two services, in two scopes; the build's own scope is not set."""
    export(shell, b"one")
    export(shell, b"two")
    export(shell, b"three", scope="pr:17")
    del shell.environment["LONGSHORE_SCOPE"]
    return shell


def test_after_a_flush_the_next_import_finds_nothing(cached: Shell) -> None:
    before = files(cached)

    assert cached("flush", "--service", "web", "--yes") == 0
    assert "no cached image for web in scope main (linux-amd64) any more; entry " in cached.out
    assert "no cached image for web in scope pr:17 (linux-amd64) any more; entry " in cached.out
    assert "api" not in cached.out

    for scope in ("main", "pr:17"):
        assert outcomes(cached, "--scope", scope) == {"web": "miss", "api": "hit"}
        assert cached("import", "web", "--scope", scope) == 0
        assert "no cached image for web\n" in cached.out
    assert before < files(cached)  # nothing was deleted
    assert files(cached, "gc") == set()


def test_the_next_export_is_cached_again(cached: Shell) -> None:
    cached("flush", "--yes")
    export(cached, b"one")

    assert outcomes(cached, "--scope", "main") == {"web": "hit", "api": "hit"}
    assert outcomes(cached, "--scope", "pr:17") == {"web": "miss", "api": "miss"}


@pytest.mark.parametrize("how", ["flag", "variable", "file"])
def test_only_a_scope_that_was_named_is_flushed(cached: Shell, how: str) -> None:
    options = []
    if how == "flag":
        options = ["--scope", "pr:17"]
    elif how == "variable":
        cached.environment["LONGSHORE_SCOPE"] = "pr:17"
    else:
        cached.write("longshore.toml", 'scope = "pr:17"\n')

    document = cached.json("flush", "--yes", *options)
    assert document["scope"] == "pr:17"
    assert {target["scope"] for target in document["targets"]} == {"pr:17"}
    assert outcomes(cached, "--scope", "main") == {"web": "hit", "api": "hit"}
    # A flushed scope holds nothing; the fallback scopes are still read.
    assert set(outcomes(cached, "--scope", "pr:17", "--fallback", "main").values()) == {"hit"}


def test_the_scope_of_the_ci_does_not_limit_a_flush(cached: Shell) -> None:
    cached.environment |= {"GITHUB_ACTIONS": "true", "GITHUB_REF": "refs/heads/main"}

    document = cached.json("flush", "--dry-run")
    assert document["scope"] is None
    assert {target["scope"] for target in document["targets"]} == {"main", "pr:17"}


def test_services_can_be_named_as_arguments_and_as_options(cached: Shell) -> None:
    document = cached.json("flush", "web", "--service", "api", "--service", "web", "--dry-run")
    assert {target["service"] for target in document["targets"]} == {"web", "api"}

    document = cached.json("flush", "api", "--dry-run", "--scope", "main")
    (target,) = document["targets"]
    assert (target["service"], target["entries"], target["flushed_by"]) == ("api", 2, None)
    assert (document["dry_run"], document["agreed"], document["swept"]) == (True, None, None)


def test_a_service_that_no_services_file_knows_any_more_is_flushed(cached: Shell) -> None:
    cached.write("compose.yaml", "name: shop\nservices: {}\n")

    assert cached("flush", "--service", "web", "--yes") == 0
    assert "no cached image for web in scope main" in cached.out


def test_nothing_to_flush_is_said_and_is_no_failure(cached: Shell) -> None:
    assert cached("flush", "--service", "db", "--scope", "main") == 0
    assert cached.out == "there is nothing to flush: nothing is cached for db in scope main\n"

    assert cached("flush", "--project", "other") == 0
    assert cached.out == (
        "there is nothing to flush: nothing is cached for any service in any scope\n"
    )


def test_dry_run_shows_what_would_be_hidden_and_writes_nothing(cached: Shell) -> None:
    before = files(cached)

    assert cached("flush", "--dry-run", "--service", "web") == 0
    assert [line.split()[:4] for line in cached.out.splitlines()[:3]] == [
        ["SCOPE", "SERVICE", "PLATFORM", "ENTRIES"],
        ["main", "web", "linux-amd64", "2"],
        ["pr:17", "web", "linux-amd64", "1"],
    ]
    assert "3 entries to hide: the next import of these finds nothing\n" in cached.out
    assert cached.out.endswith("nothing was done: this was a dry run\n")
    assert files(cached) == before


# Whom it asks


def test_without_a_terminal_and_without_yes_it_refuses_in_one_line(cached: Shell) -> None:
    before = files(cached)

    assert cached("flush") == 2
    assert cached.err == ("error: flush has nobody to ask; look with --dry-run, then say --yes\n")
    assert files(cached) == before


@pytest.mark.parametrize("answer", ["\n", "n\n", "", "yo\n"])
def test_anything_but_yes_is_no(cached: Shell, answer: str) -> None:
    cached.answer = answer
    before = files(cached)

    assert cached("flush", "-q") == 1
    assert cached.out == "nothing was flushed\n"
    assert "6 entries to hide" in cached.err
    assert cached.err.endswith("Go on? [y/N] ")
    assert files(cached) == before
    assert cached.json("flush")["agreed"] is False


def test_yes_is_yes(cached: Shell) -> None:
    cached.answer = "y\n"

    assert cached("flush") == 0
    assert set(outcomes(cached, "--scope", "main").values()) == {"miss"}


# Rights


def test_scopes_that_may_not_be_listed_have_to_be_named(cached: Shell) -> None:
    cached.wrap = lambda store: RefusingStore(store, refuses=lambda op, _: op == "list_folders")

    assert cached("flush", "--yes") == 6
    (line,) = cached.err.splitlines()
    assert line.startswith(
        "error: the credentials may not list the scopes of shop; name one with --scope (file://"
    )
    assert cached("flush", "--yes", "--scope", "main") == 0


def test_a_scope_that_may_not_be_listed_is_refused_as_it_is(cached: Shell) -> None:
    cached.wrap = lambda store: RefusingStore(store)

    assert cached("flush", "--yes", "--scope", "main") == 6
    assert "name one with --scope" not in cached.err


def test_a_flush_deletes_nothing_and_writes_nothing_beside_the_scopes(cached: Shell) -> None:
    stores: list[RefusingStore] = []

    def wrap(store: object) -> RefusingStore:
        stores.append(RefusingStore(store, refuses=lambda *_: False))  # type: ignore[arg-type]
        return stores[-1]

    cached.wrap = wrap
    assert cached("flush", "--yes") == 0

    calls = [call for store in stores for call in store.calls]
    assert {call[0] for call in calls} <= {"now", "put", "close"}
    assert all("/entries/" in str(call[1]) for call in calls if call[0] == "put")


# Signatures


def test_a_flush_is_signed_with_the_key_that_is_set(cached: Shell) -> None:
    assert cached("keygen", "--output", "key.pem") == 0
    export(cached, b"four", scope="signed")
    cached("export", "--scope", "signed", "--signing-key", "key.pem")
    cached.engine.build([*STEPS, ("COPY . .", {"app.js": b"five"})], "shop/web:1")
    assert cached("export", "web", "--scope", "signed", "--signing-key", "key.pem") == 0
    trusting = ("web", "--scope", "signed", "--trusted-key", "key.pem.pub")
    assert outcomes(cached, *trusting) == {"web": "hit"}

    cached.environment["LONGSHORE_TRUSTED_KEY"] = "key.pem.pub"
    assert cached("flush", "web", "--scope", "signed", "--yes") == 0
    assert (
        "warning: the flush is not signed, so whoever trusts keys passes over it; give"
        " --signing-key\n" in cached.err
    )
    assert outcomes(cached, *trusting) == {"web": "hit"}

    assert cached("flush", "web", "--scope", "signed", "--yes", "--signing-key", "key.pem") == 0
    assert "warning" not in cached.err
    newest = max(files(cached, "signed/entries/web"), key=lambda path: path.name)
    assert len(unseal(newest.read_bytes()).signatures) == 1
    assert outcomes(cached, *trusting) == {"web": "miss"}


# At once


def test_now_takes_force(cached: Shell) -> None:
    before = files(cached)

    assert cached("flush", "--now", "--yes") == 2
    (line,) = cached.err.splitlines()
    assert "say --force if nothing uses the project meanwhile" in line
    assert files(cached) == before


def test_now_removes_what_was_flushed_and_nothing_else(cached: Shell) -> None:
    cached("flush", "api", "--scope", "pr:17", "--yes")  # another day; not this flush's business
    kept = {path for path in files(cached, "entries") if "/web/" not in str(path)}
    orphan = cached.store / "shop/scopes/main/packs/019424f8-632e-7001-8203-040506070809"
    orphan.write_bytes(b"of an export that died")
    used = files(cached, "packs")

    assert cached("flush", "--service", "web", "--now", "--force", "--yes") == 0

    assert files(cached, "entries") - kept == {
        path for path in files(cached, "entries") if "/web/" in str(path)
    }
    assert kept <= files(cached, "entries")
    web = [path for path in files(cached, "entries") if "/web/" in str(path)]
    assert len(web) == 2  # that it is flushed, in each scope
    assert orphan in used - files(cached, "packs")
    assert "all that nothing refers to is deleted from the project" in cached.err
    assert "shop: 3 entries removed\n" in cached.out
    assert "  deleted  " in cached.out
    assert outcomes(cached, "--scope", "main") == {"web": "miss", "api": "hit"}


def test_now_frees_everything_if_everything_is_flushed(cached: Shell) -> None:
    document = cached.json("flush", "--now", "--force", "--yes")

    assert document["ok"]
    assert len(document["swept"]["removals"]) == 6
    assert files(cached, "packs") == files(cached, "recipes") == set()
    assert len(files(cached, "entries")) == 4


def test_dry_run_of_now_deletes_nothing(cached: Shell) -> None:
    before = files(cached)

    assert cached("flush", "--now", "--force", "--dry-run") == 0
    assert "they are removed at once, and all that nothing refers to is deleted" in cached.out
    assert files(cached) == before


def test_a_document_that_cannot_be_read_keeps_now_from_deleting(cached: Shell) -> None:
    broken = next(iter(files(cached, "entries/api")))
    broken.write_bytes(b"nonsense")
    packs = files(cached, "packs")

    assert cached("flush", "web", "--now", "--force", "--yes") == 4
    assert "  not deleted  nothing, as long as this is so: " in cached.out
    assert files(cached, "packs") == packs
    assert outcomes(cached, "web", "--scope", "main") == {"web": "miss"}


def test_the_documented_example_has_the_fields_of_real_output(cached: Shell) -> None:
    asyncio.run(DirectoryStore(cached.store).create_upload("shop/scopes/main/packs/x"))
    later(cached.store, hours=1)
    real = cached.json("flush", "--scope", "main", "--now", "--force", "--yes")

    assert shape(examples()["flush"]) == shape(real)
    section = TEXT.partition("### prune\n")[2].partition("### doctor")[0]
    common = TEXT.partition("All documents have:")[2].partition("If `ok` is false")[0]
    for name in _fields(real):
        assert re.search(rf"`[^`]*\b{name}\b[^`]*`", section + common), name
