"""Which projects a store has."""

from __future__ import annotations

from msgspec import Struct

from longshore.core.keys import is_segment, name_of, segment
from longshore.errors import UsageError
from longshore.ops.tasks import for_each
from longshore.store.contract import Store

_LISTED_AT_ONCE = 16
_FOLDERS = frozenset({"scopes", "gc"})


class Projects(Struct, frozen=True):
    """The projects of a store.

    Attributes:
        names: sorted.
        unnamed: folders of projects whose names cannot be read back, as they are too long.
    """

    names: tuple[str, ...]
    unnamed: tuple[str, ...]


async def list_projects(store: Store) -> Projects:
    """List the projects of a store; what else lies in its root is passed over.

    Raises:
        StoreError: the store failed, or refuses.
    """
    folders = [folder async for folder in store.list_folders("") if is_segment(folder)]
    are_projects = await for_each(
        lambda folder: _is_project(store, folder), folders, at_once=_LISTED_AT_ONCE
    )
    names: list[str] = []
    unnamed: list[str] = []
    for folder, is_project in zip(folders, are_projects, strict=True):
        if is_project:
            name = name_of(folder)
            if _folder(name) == folder:
                names.append(name)
            else:
                unnamed.append(folder)
    return Projects(tuple(sorted(names)), tuple(sorted(unnamed)))


async def has_project(store: Store, project: str) -> bool:
    """Tell whether anything is stored for a project.

    Raises:
        StoreError: the store failed, or refuses.
    """
    return await _is_project(store, segment(project))


async def _is_project(store: Store, folder: str) -> bool:
    return any([below in _FOLDERS async for below in store.list_folders(f"{folder}/")])


def _folder(name: str) -> str | None:
    try:
        return segment(name)
    except UsageError:
        return None
