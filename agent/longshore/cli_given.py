"""What a command was told, and whether a sidecar was told the same.

A sidecar has its own settings, and its own credentials. A command that was told something else
must not have its work done there: it would come to another scope, or to another store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from longshore.config import Settings
from longshore.config_layers import Flags
from longshore.errors import OtherSettings, UsageError
from longshore.service.task import GIVEN, OPTIONS
from longshore.surroundings import World, read_services_file, scope_of_ci

OTHER = "this sidecar is for another "
_PLAIN = ("store", "endpoint-url", "project", "sse", "kms-key")
_LISTS = ("fallback", "trusted-key", "image")
_SECRETS = ("signing-key", "sse-customer-key")
# Of the process that does the work, or of the one that tells of it; none changes what is done.
_HOW = frozenset(
    {
        *("json", "quiet", "config", "socket", "sidecar", "memory", "concurrency"),
        *("services", "service", "yes"),
    }
)


def told(settings: Settings, world: World, command: str) -> dict[str, Any]:
    """Say what a sidecar has to be told as well, if it is to do the work of a command.

    That is what a flag, a variable or the file says, the scope that the CI service says, and which
    services file there is. Keys are not in it: only that there has to be one.

    Raises:
        UsageError: the services file cannot be read.
    """
    given: dict[str, Any] = {}
    for name in _PLAIN:
        if name in settings.sources:
            given[name] = settings.store_url if name == "store" else _value(settings, name)
    for name in _SECRETS:
        if name in settings.sources and (name != "signing-key" or command != "import"):
            given[name] = True
    data = read_services_file(settings, world)
    if data is not None:
        given["services"] = _digest(data)
    if command == "flush":
        # Without a scope it is for all of them, whatever scope the sidecar is for.
        return given if settings.scope is not None else {**given, "scope": None}
    for name in _LISTS:
        if name in settings.sources:
            given[name] = list(_value(settings, name))
    scope = settings.scope if settings.scope is not None else scope_of_ci(world)
    if scope is not None:
        given["scope"] = scope
    return given


def foreign_flags(flags: Flags, command: str) -> list[str]:
    """Name the flags that were typed, and that a sidecar takes from nobody."""
    typed = {name for name, value in flags.items() if value is not None and value != []}
    compared = GIVEN - set(_SECRETS)
    return sorted(typed - OPTIONS[command] - compared - _HOW)


def require_same(
    given: Mapping[str, Any],
    effective: Mapping[str, Any],
    settings: Settings,
    world: World,
    command: str,
) -> None:
    """Make sure that this process was told what whoever asks was told.

    Args:
        effective: what counts here, by the names of options.

    Raises:
        OtherSettings: it was told something else.
    """
    for name, wanted in given.items():
        here = effective.get(name)
        if name == "scope" and command == "flush":
            here = settings.scope
        if name == "fallback":  # the own scope is read first, wherever else it is named
            own = effective.get("scope")
            wanted = [scope for scope in dict.fromkeys(wanted or ()) if scope != own]
        if name == "services":
            data = read_services_file(settings, world)
            if data is not None and _digest(data) != wanted:
                raise OtherSettings(f"{OTHER}services file")
        elif name == "image":
            if missing := _missing_images(list(wanted or ()), list(here or ())):
                raise OtherSettings(f"{OTHER}image of {missing}")
        elif name in _SECRETS:
            if here is None:
                raise OtherSettings(f"{OTHER}{name} (none)")
        elif not _same(name, here, wanted):
            raise OtherSettings(f"{OTHER}{name} ({_shown(here)}, not {_shown(wanted)})")


def _same(name: str, here: Any, wanted: Any) -> bool:
    if name in ("store", "endpoint-url"):
        return str(here).rstrip("/") == str(wanted).rstrip("/")
    if name == "trusted-key":
        return isinstance(wanted, list) and set(here or ()) == set(map(str, wanted))
    return bool(here == wanted)


def _missing_images(wanted: list[str], here: list[str]) -> str | None:
    """Name the first service of which `here` does not have the same images."""
    from longshore.core.services import parse_image_options

    try:
        services = parse_image_options(wanted)
    except (UsageError, AttributeError) as error:
        raise OtherSettings(f"{OTHER}image ({error})") from error
    known = {service.name: set(service.images) for service in parse_image_options(here)}
    return next((s.name for s in services if set(s.images) != known.get(s.name)), None)


def _value(settings: Settings, name: str) -> Any:
    return getattr(settings, name.replace("-", "_"))


def _shown(value: Any) -> str:
    if value is None or value == []:
        return "none"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
