"""`--no-parents`: where it is set, and what an export then keeps."""

from __future__ import annotations

from typing import Any

import pytest
from tests.cli.conftest import COMPOSE, STEPS, Shell
from tests.support.fake_engine import FakeEngine


def images(shell: Shell, *arguments: str) -> list[dict[str, Any]]:
    """Export a service; gives what is said of its images."""
    found: list[dict[str, Any]] = shell.json("export", "web", *arguments)["services"][0]["images"]
    return found


def image_of(shell: Shell, tag: str) -> str:
    return next(i for i, found in shell.engine.images.items() if tag in found.tags)


def test_parents_are_kept_unless_told_otherwise(built: Shell) -> None:
    assert len(images(built)) == 4
    assert len(images(built, "--no-parents")) == 1


@pytest.mark.parametrize("source", ["flag", "variable", "file"])
def test_parents_are_left_out_by_flag_variable_and_file(built: Shell, source: str) -> None:
    flags = ["--no-parents"] if source == "flag" else []
    if source == "variable":
        built.environment["LONGSHORE_PARENTS"] = "no"
    if source == "file":
        built.write("longshore.toml", "parents = false\n")

    (image,) = images(built, *flags)

    assert (image["id"], image["parent"]) == (image_of(built, "shop/web:1"), None)
    assert len(image["diff_ids"]) == 3
    options = {o["name"]: o["value"] for o in built.json("config")["options"]}
    assert options["parents"] is (source == "flag")  # which only export has


def test_flag_goes_before_what_the_file_says(built: Shell) -> None:
    built.write("longshore.toml", "parents = false\n")

    assert len(images(built, "--parents")) == 4


def test_image_without_its_parents_is_imported(built: Shell) -> None:
    before = built.engine
    built("export", "web", "--no-parents", "--strict")
    built.engine = FakeEngine()

    service = built.json("import", "web", "--strict")["services"][0]

    assert (service["outcome"], service["cache_from"]) == ("hit", ["shop/web:1"])
    (web,) = built.engine.images.values()
    assert web.config == before.images[image_of(built, "shop/web:1")].config
    assert web.parent is None


def test_parent_that_the_services_file_names_is_kept_and_stays_a_parent(shell: Shell) -> None:
    shell.write(
        "compose.yaml",
        COMPOSE.replace(
            'image: "shop/web:1", x-longshore: {cached: true}',
            'image: "shop/web:1", x-longshore: {cached: true, images: [base:1]}',
        ),
    )
    shell.engine.build(STEPS[:1], "base:1")
    shell.engine.build(STEPS[:2], "shop/web:1")

    web, base = images(shell, "--no-parents")

    assert (web["parent"], base["id"], base["parent"]) == (base["id"], base["id"], None)


def test_export_with_parents_after_one_without_keeps_the_engines(built: Shell) -> None:
    built("export", "web", "--no-parents")

    assert len(images(built)) == 4


def test_export_without_parents_after_one_with_them_takes_none_from_the_store(
    built: Shell,
) -> None:
    built("export", "web")
    built.engine.build([*STEPS, ("COPY . .", {"app.js": b"new"})], "shop/web:1")

    assert len(images(built, "--no-parents")) == 1


def test_import_has_no_such_flag(shell: Shell) -> None:
    assert shell("import", "--no-parents") == 2
