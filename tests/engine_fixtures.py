"""Fixtures that give tests throw-away Docker engines; loaded by `pytest_plugins`.

Where engines cannot run, their tests are skipped with the reason; with LONGSHORE_REQUIRE_ENGINES=1
they fail. Tests that use these fixtures carry the marker `engine`, without having to say so.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Protocol

import pytest
from tests.support.engines import (
    EngineUnavailable,
    Generation,
    ImageStore,
    ThrowawayEngine,
    find_engine,
)

FIXTURES = frozenset({"fresh_engine", "shared_engine"})


class FreshEngine(Protocol):
    """Start an engine that knows no images; it is stopped when the test ends."""

    def __call__(
        self,
        generation: Generation = "28.5",
        image_store: ImageStore = "graphdriver",
        *,
        in_memory: bool = False,
    ) -> ThrowawayEngine: ...


def prepare_engine(
    generation: Generation = "28.5",
    image_store: ImageStore = "graphdriver",
    *,
    in_memory: bool = False,
) -> ThrowawayEngine:
    """Return an engine to be started, or skip the test where there can be none."""
    try:
        binaries = find_engine(generation)
    except EngineUnavailable as unavailable:
        if os.environ.get("LONGSHORE_REQUIRE_ENGINES") == "1":
            pytest.fail(f"LONGSHORE_REQUIRE_ENGINES=1, but {unavailable.reason}", pytrace=False)
        pytest.skip(unavailable.reason)
    return ThrowawayEngine(binaries, image_store, in_memory=in_memory)


@pytest.fixture
def fresh_engine() -> Iterator[FreshEngine]:
    """A factory of engines that are this test's own, several side by side if it wants."""
    with contextlib.ExitStack() as engines:

        def start(
            generation: Generation = "28.5",
            image_store: ImageStore = "graphdriver",
            *,
            in_memory: bool = False,
        ) -> ThrowawayEngine:
            return engines.enter_context(
                prepare_engine(generation, image_store, in_memory=in_memory)
            )

        yield start


@pytest.fixture(scope="session")
def shared_engine() -> Iterator[ThrowawayEngine]:
    """One 28.5 with the graphdriver store for all tests that tag their images uniquely."""
    with prepare_engine() as engine:
        yield engine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("engine")
