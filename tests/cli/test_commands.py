"""Commands against a store in a folder and an engine in memory: what they say, and their codes."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from tests.cli.conftest import COMPOSE, STEPS, Shell
from tests.support.fake_engine import FakeEngine


def test_export_lists_every_image_and_layer_in_full(built: Shell) -> None:
    assert built("export") == 0

    for name in ("shop/web:1", "shop/api:1"):
        image = next(i for i, found in built.engine.images.items() if name in found.tags)
        assert f"{image}  layers 1-3  {name}" in built.out
        for diff_id in built.engine.images[image].diff_ids:
            assert diff_id in built.out
    assert "exported 2 services to scope main" in built.out
    assert " uploaded (" in built.out


def test_export_again_uploads_nothing_and_says_so(built: Shell) -> None:
    built("export")
    built("export")

    assert "web: unchanged; entry " in built.out
    assert "new\n" not in built.out
    assert built.engine.saves == 1


def test_only_named_services_are_exported(built: Shell) -> None:
    document = built.json("export", "api")

    assert [service["service"] for service in document["services"]] == ["api"]


@pytest.mark.parametrize("form", ["legacy", "oci"])
def test_import_gives_an_empty_engine_what_was_exported(built: Shell, form: str) -> None:
    built.engine.archive = "legacy" if form == "legacy" else "oci"
    assert built("export", "--strict") == 0
    before = built.engine
    built.engine = FakeEngine()
    assert built("import", "--strict") == 0

    assert built.engine.images == before.images
    assert built.engine.layers == before.layers


def test_import_says_scope_age_and_the_exact_cache_from(exported: Shell) -> None:
    exported.environment["LONGSHORE_SCOPE"] = "feature/x"
    assert exported("import", "--fallback", "main") == 0

    assert "web: hit from scope main, " in exported.out
    flags = "--cache-from shop/web:1 --build-arg BUILDKIT_INLINE_CACHE=1"
    assert f"  build it with {flags}\n" in exported.out
    assert "imported 2 of 2 services" in exported.out


def test_import_without_an_entry_is_a_miss_and_no_failure(shell: Shell) -> None:
    assert shell("import", "web") == 0
    assert "no cached image for web\n" in shell.out
    assert "no cached image for web\n" in shell.err
    assert "warning" not in shell.err

    assert shell("import", "web", "--strict") == 3


def test_a_service_that_holds_more_than_is_allowed_is_a_miss_that_names_the_option(
    exported: Shell,
) -> None:
    assert exported("import", "web", "--max-image-size", "1kB") == 0
    assert exported.err.count("warning: ") == 1
    assert "web: file://" in exported.err
    assert "more than the 1,000 that --max-image-size allows" in exported.err
    assert exported.engine.images == {}

    assert exported("import", "web", "--max-image-size", "1kB", "--strict") == 3
    assert exported("cat", "web", "--max-image-size", "1kB") == 3
    assert exported.raw == b""
    assert exported("import", "web", "--max-image-size", "1MB", "--strict") == 0


def test_second_import_finds_everything_in_the_engine(exported: Shell) -> None:
    exported("import")
    document = exported.json("import")

    assert [service["layers_sent"] for service in document["services"]] == [0, 0]
    assert document["downloaded_bytes"] == 0


def test_layer_that_vanishes_during_the_load_is_loaded_again(exported: Shell) -> None:
    exported.engine.build(STEPS[:1], "base:1")
    exported.engine.vanish = set(exported.engine.layers)

    assert exported("import", "web", "--strict") == 0
    assert "loading in full" in exported.err
    assert len(exported.engine.loads) == 2


def test_cat_writes_an_archive_that_an_engine_loads(exported: Shell) -> None:
    assert exported("cat", "web") == 0

    with tarfile.open(fileobj=io.BytesIO(exported.raw)) as tar:
        manifest = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
    assert manifest[0]["RepoTags"] == ["shop/web:1"]
    assert exported.err.startswith("reading: ")


def test_cat_refuses_a_terminal(exported: Shell) -> None:
    exported.terminal = True

    assert exported("cat", "web") == 2
    assert "longshore cat web | docker load" in exported.err
    assert exported.raw == b""


def test_list_shows_entries_in_full_without_a_terminal(exported: Shell) -> None:
    assert exported("list") == 0

    head, api, web = exported.out.splitlines()
    assert head.split() == [
        "SCOPE",
        "SERVICE",
        "PLATFORM",
        "AGE",
        "SIZE",
        "STORED",
        "ENTRY",
        "TAGS",
    ]
    assert api.split()[:3] == ["main", "api", "linux-amd64"]
    assert web.endswith("shop/web:1")


def test_list_of_all_scopes_needs_no_scope(exported: Shell) -> None:
    del exported.environment["LONGSHORE_SCOPE"]

    assert exported("list") == 2
    assert "--scope" in exported.err
    assert exported("list", "--all-scopes") == 0
    assert "main" in exported.out


def test_lists_fit_a_narrow_terminal(exported: Shell) -> None:
    exported.terminal = True

    for arguments in (["list"], ["export"], ["show", "web"], ["doctor"]):
        exported(*arguments)
        wide = [line for line in exported.out.splitlines() if len(line) > 80]
        assert [line for line in wide if not line.startswith("at ")] == []


def test_show_and_diff_tell_steps_and_layers(exported: Shell) -> None:
    assert exported("show", "web") == 0
    assert "RUN npm ci" in exported.out
    exported.engine.build([*STEPS, ("COPY . .", {"app.js": b"three"})], "shop/web:1")
    assert exported("diff", "web") == 0

    assert "* rebuilt" in exported.out
    assert "COPY . ." in exported.out


def test_doctor_finds_nothing_wrong_with_a_sound_setup(exported: Shell) -> None:
    assert exported("doctor") == 0
    assert exported.out.endswith("no problem found\n")


def test_doctor_ends_with_1_if_something_is_wrong(exported: Shell) -> None:
    exported.engine.unreachable = True

    assert exported("doctor") == 1
    assert "cannot be reached" in exported.out


def test_control_characters_never_reach_the_terminal(built: Shell) -> None:
    evil = "RUN echo \x1b]0;owned\x07 \u202e[bold red]x[/]"
    built.engine.build([("FROM base", {"a": b"a"}), (evil, {"b": b"b"})], "shop/web:1")
    built("export")
    for terminal in (False, True):
        built.terminal = terminal
        for arguments in (["show", "web"], ["list"], ["diff", "web"], ["show", "web", "--json"]):
            assert built(*arguments) == 0
            assert not any(c in built.out for c in "\x1b\x07\u202e")
    assert "[bold red]" in built.out


def test_engine_and_quiet_narration_go_to_stderr_only(built: Shell) -> None:
    built("export", "--quiet")

    assert built.err == ""
    assert built.out.startswith("web: ")


def test_progress_bar_is_for_terminals_and_leaves_a_line(built: Shell) -> None:
    built.terminal = True
    assert built("export") == 0

    assert "\x1b[" in built.err
    assert "saving: " in built.err


def test_no_color_is_obeyed(shell: Shell) -> None:
    shell.terminal = True
    shell.engine.unreachable = True
    shell("import")
    coloured = shell.err
    shell.environment["NO_COLOR"] = "1"
    shell("import")

    assert "\x1b[33mwarning:" in coloured
    assert "\x1b" not in shell.err


def test_parts_are_closed_after_success_and_failure(built: Shell) -> None:
    built("export")
    assert built.engine.closed
    built.engine.closed, built.engine.unreachable = False, True
    built("export")
    assert built.engine.closed


def test_project_option_does_not_change_the_names_of_images(built: Shell) -> None:
    built.write("compose.yaml", COMPOSE.replace('image: "shop/web:1"', "build: ."))
    built.engine.build(STEPS, "shop-web:latest")
    document = built.json("export", "web", "--project", "elsewhere")

    assert document["project"] == "elsewhere"
    assert document["services"][0]["images"][0]["tags"] == ["shop-web:latest"]
    assert (built.store / "elsewhere").is_dir()


def test_image_option_needs_no_services_file(built: Shell) -> None:
    (built.directory / "compose.yaml").unlink()
    document = built.json("export", "--image", "app=shop/web:1", "--project", "p")

    assert [service["service"] for service in document["services"]] == ["app"]


def test_image_option_takes_the_place_of_a_service_of_the_file(built: Shell) -> None:
    document = built.json("export", "web", "--image", "web=shop/api:1")

    assert document["services"][0]["images"][0]["tags"] == ["shop/api:1"]


def test_codeships_default_branch_is_a_fallback(built: Shell) -> None:
    (built.directory / "compose.yaml").unlink()
    built.write(
        "codeship-services.yml",
        "web:\n  build: {image: shop/web}\n  cached: true\n  default_cache_branch: develop\n",
    )
    built.engine.build(STEPS, "shop/web:latest")
    document = built.json("list", "--all-scopes")

    assert document["fallback"] == ["develop"]


def test_dotenv_counts_and_the_environment_goes_first(built: Shell) -> None:
    built.write("compose.yaml", COMPOSE.replace("shop/web:1", "shop/web:${TAG}"))
    built.write(".env", "TAG=1\n")
    assert built("export", "web", "--strict") == 0
    built.environment["TAG"] = "2"
    assert built("export", "web", "--strict") == 3


def test_scope_comes_from_the_ci_event_or_git(built: Shell, tmp_path: Path) -> None:
    del built.environment["LONGSHORE_SCOPE"]
    built.write("event.json", json.dumps({"repository": {"default_branch": "trunk"}}))
    built.environment |= {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_REF": "refs/pull/17/merge",
        "GITHUB_BASE_REF": "develop",
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
    }
    document = built.json("export", "web")

    assert document["scope"] == "pr:17"
    assert document["fallback"] == ["develop", "trunk"]
