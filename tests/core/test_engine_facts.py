"""What each version and image store of an engine means for builds."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from longshore.core.diagnosis import Finding
from longshore.core.engine_facts import judge_engine, parse_version

GRAPHDRIVER = ("graphdriver", "overlay2")
CONTAINERD = ("containerd", "overlayfs")
NAMED = "the classic builder uses loaded images that --cache-from names"
FAILS = f"{NAMED}, but fails if a step before the last one made no layer"
MAY_FAIL = FAILS.replace("fails", "may fail")
CVE = "lacks the fix of CVE-2024-24557: the classic builder takes any loaded image"
UNTRIED = "longshore was never tried with images in containerd of Docker"
INLINE = "BuildKit uses loaded images that --cache-from names by tag"
BROKEN = "does not find the cache in loaded images (moby/buildkit#5242)"
COLD = "BuildKit ignores loaded images here, so it starts cold with web"
# Version and store; verdict and words about the build cache, the same about BuildKit; whether a
# save leaves something on the engine's disk.
ENGINES = [
    ("20.10.24+dfsg1", GRAPHDRIVER, ("warning", CVE), ("ok", INLINE), False),
    ("23.0.5", GRAPHDRIVER, ("warning", CVE), ("ok", INLINE), False),
    ("23.0.9", GRAPHDRIVER, ("warning", CVE), ("ok", INLINE), False),
    ("23.0.10", GRAPHDRIVER, ("ok", NAMED), ("ok", INLINE), False),
    ("24.0.8", GRAPHDRIVER, ("warning", CVE), ("ok", INLINE), False),
    ("24.0.9", GRAPHDRIVER, ("ok", NAMED), ("ok", INLINE), False),
    ("25.0.1", GRAPHDRIVER, ("warning", CVE), ("ok", INLINE), True),
    ("25.0.1", CONTAINERD, ("warning", UNTRIED), ("warning", COLD), False),
    ("25.0.2", GRAPHDRIVER, ("ok", NAMED), ("ok", INLINE), True),
    ("26.1.5+dfsg1", GRAPHDRIVER, ("ok", NAMED), ("ok", INLINE), True),
    ("26.1.5+dfsg1", CONTAINERD, ("ok", FAILS), ("warning", COLD), False),
    ("27.0.0", GRAPHDRIVER, ("ok", NAMED), ("warning", BROKEN), True),
    ("27.1.0", GRAPHDRIVER, ("ok", NAMED), ("warning", BROKEN), True),
    ("27.1.0", CONTAINERD, ("ok", FAILS), ("warning", COLD), False),
    ("27.1.2", GRAPHDRIVER, ("ok", NAMED), ("warning", BROKEN), True),
    ("27.2.0", GRAPHDRIVER, ("ok", NAMED), ("ok", INLINE), True),
    ("28.5.2", GRAPHDRIVER, ("ok", NAMED), ("ok", INLINE), True),
    ("28.5.2", CONTAINERD, ("ok", FAILS), ("warning", COLD), False),
    ("29.3.0", GRAPHDRIVER, ("ok", NAMED), ("ok", INLINE), True),
    ("29.3.0", CONTAINERD, ("ok", MAY_FAIL), ("warning", COLD), False),
    ("29.7", GRAPHDRIVER, ("ok", NAMED), ("ok", INLINE), True),
    ("30.0.0", GRAPHDRIVER, ("ok", NAMED), ("ok", INLINE), False),
]


def about(findings: Iterable[Finding], subject: str) -> Finding:
    (found,) = [finding for finding in findings if finding.subject == subject]
    return found


def judged(version: str, store: tuple[str, str], *without_cache: str) -> list[Finding]:
    return list(judge_engine(version, *store, without_buildkit_cache=without_cache))


@pytest.mark.parametrize(
    ("version", "store", "builder", "buildkit", "keeps_layers"),
    ENGINES,
    ids=[f"{version}-{store[0]}" for version, store, *_ in ENGINES],
)
def test_an_engine_is_judged_by_its_version_and_its_image_store(
    version: str,
    store: tuple[str, str],
    builder: tuple[str, str],
    buildkit: tuple[str, str],
    keeps_layers: bool,
) -> None:
    findings = judged(version, store, "web")

    for subject, (verdict, words) in (("build cache", builder), ("BuildKit", buildkit)):
        assert about(findings, subject).verdict == verdict
        assert words in about(findings, subject).text
    assert ("saving" in {finding.subject for finding in findings}) == keeps_layers


def test_findings_are_one_short_line_each_and_say_what_to_do() -> None:
    for finding in (f for version, store, *_ in ENGINES for f in judged(version, store, "web")):
        assert "\n" not in finding.text + finding.advice
        assert len(finding.text) <= 140
        assert len(finding.advice) <= 140
        assert finding.advice or finding.subject == "image store"


@pytest.mark.parametrize(
    ("store", "text"),
    [
        (GRAPHDRIVER, "graphdriver (overlay2): loaded images keep their ids and parents"),
        (CONTAINERD, "containerd (overlayfs): loaded images keep their ids, but no parents"),
    ],
)
def test_both_image_stores_are_well(store: tuple[str, str], text: str) -> None:
    found = about(judged("28.5.2", store), "image store")

    assert (found.verdict, found.text) == ("ok", text)


def test_where_loaded_images_are_named_the_command_that_names_them_is_said() -> None:
    for store in (GRAPHDRIVER, CONTAINERD):
        assert "`longshore cache-from`" in about(judged("28.5.2", store), "build cache").advice
    assert "leaves such images out" in about(judged("28.5.2", CONTAINERD), "build cache").advice
    assert "`longshore cache-from`" in about(judged("20.10.24", GRAPHDRIVER), "build cache").advice


def test_services_are_told_how_to_keep_a_buildkit_cache_where_it_is_the_only_one() -> None:
    found = about(judged("28.5.2", CONTAINERD, "web", "worker"), "BuildKit")

    assert found.text.endswith("cold with web, worker")
    assert "give web `x-longshore: {buildkit_cache: .cache/web}`" in found.advice
    assert "`longshore build`" in found.advice


def test_services_that_all_keep_a_buildkit_cache_are_well() -> None:
    found = about(judged("28.5.2", CONTAINERD), "BuildKit")

    assert found.verdict == "ok"
    assert "`longshore cache-from`" in found.advice


def test_an_engine_that_lives_long_is_told_to_export_without_parents() -> None:
    assert "--no-parents" in about(judged("28.5.2", GRAPHDRIVER), "saving").advice


def test_an_engine_that_is_too_old_is_told_to_be_updated() -> None:
    found = about(judged("19.03.15", GRAPHDRIVER), "build cache")

    assert (found.verdict, found.advice) == ("warning", "update Docker")
    assert "20.10 is the oldest" in found.text


@pytest.mark.parametrize("store", [GRAPHDRIVER, CONTAINERD])
def test_an_engine_without_a_version_is_judged_by_its_image_store(store: tuple[str, str]) -> None:
    findings = judged("dev", store, "web")

    found = about(findings, "build cache")
    assert (found.verdict, "does not say" in found.text) == ("warning", True)
    assert ("BuildKit" in {finding.subject for finding in findings}) == (store is CONTAINERD)


@pytest.mark.parametrize(
    ("text", "version"),
    [("20.10.24+dfsg1", (20, 10, 24)), ("29.7", (29, 7, 0)), ("28.5.2-rc.1", (28, 5, 2))],
)
def test_version_is_read_from_what_distributions_make_of_it(
    text: str, version: tuple[int, int, int]
) -> None:
    assert parse_version(text) == version
