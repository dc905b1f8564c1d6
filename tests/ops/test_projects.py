"""Which projects a store has, whatever else lies in its root."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from longshore.core.keys import segment
from longshore.ops.projects import has_project, list_projects
from longshore.store.directory import DirectoryStore
from longshore.store.memory import MemoryStore


async def test_projects_are_folders_with_scopes_or_with_prunes_notes() -> None:
    store = MemoryStore(lambda: datetime(2026, 3, 1, tzinfo=UTC))
    for key in ("b/scopes/main/packs/x", "a~2Fb/scopes/main/x", "c/gc/x", "other/file", "file"):
        await store.put(key, b"x")
    long = segment("x" * 300)
    await store.put(f"{long}/scopes/main/packs/x", b"x")

    found = await list_projects(store)
    assert found.names == ("a/b", "b", "c")
    assert found.unnamed == (long,)
    assert await has_project(store, "a/b")
    assert await has_project(store, "x" * 300)
    assert not await has_project(store, "other")
    assert not await has_project(store, "scopes")


async def test_a_name_that_cannot_be_read_back_is_told(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    await store.put("a~FF/scopes/main/x", b"x")  # no text, and no name that longshore writes
    await store.put("shop/scopes/main/x", b"x")
    (tmp_path / "with space").mkdir()

    found = await list_projects(store)
    assert (found.names, found.unnamed) == (("shop",), ("a~FF",))
