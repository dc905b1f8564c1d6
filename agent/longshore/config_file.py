"""The configuration file: `longshore.toml`, or `[tool.longshore]` in `pyproject.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from longshore.errors import UsageError

NAME = "longshore.toml"
SHARED_NAME = "pyproject.toml"
_MAX_BYTES = 1 << 20
_NOTHING: Mapping[str, object] = {}


class ConfigFile(NamedTuple):
    """What a configuration file says; an empty name if there is none."""

    name: str = ""
    values: Mapping[str, object] = _NOTHING


def read_config_file(directory: Path, given: str | None) -> ConfigFile:
    """Read the file that was given, else the one in the working directory.

    `longshore.toml` comes before `pyproject.toml`, which counts only if it has the table
    `[tool.longshore]`. Only one file is read.

    Raises:
        UsageError: it cannot be read.
    """
    if given is not None:
        return _read(directory / given, given)
    if (directory / NAME).is_file():
        return _read(directory / NAME, NAME)
    if (directory / SHARED_NAME).is_file():
        return _read(directory / SHARED_NAME, SHARED_NAME)
    return ConfigFile()


def _read(path: Path, name: str) -> ConfigFile:
    import tomllib  # not before there is a file

    shared = path.name == SHARED_NAME
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).decode()
        if shared and "longshore" not in text:
            return ConfigFile()
        document = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: it is not UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{name}: it is not TOML: {error}") from error
    tool = document.get("tool")
    table = tool.get("longshore") if isinstance(tool, dict) else None
    if table is None and shared:
        return ConfigFile()
    if table is None:
        table = document
    elif not isinstance(table, dict):
        raise UsageError(f"{name}: tool.longshore is not a table")
    elif not shared and document.keys() - {"tool"}:
        raise UsageError(f"{name}: has both keys of its own and [tool.longshore]; keep one")
    values: dict[str, object] = {}
    for key, value in table.items():
        plain = key.replace("_", "-")
        if plain in values:
            raise UsageError(f"{name}: {plain} is there twice, as {plain} and {key}")
        values[plain] = value
    return ConfigFile(name, values)
