"""How handovers are written: as flags, as an override file for Compose, and for buildx bake."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from longshore.core.handover import Handover

# What a shell hands on as it is, though it stands in `$(…)` without quotes: nothing is split there
# or taken for a pattern.
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def flag_words(handover: Handover) -> list[str]:
    """Write the flags of one `docker build`, each word by itself."""
    return [word for pair in _flags(handover) for word in pair]


def flag_line(handover: Handover) -> tuple[str, tuple[str, ...]]:
    """Write flags for `docker build $(…) .`; and return the values that cannot be written so."""
    words: list[str] = []
    refused: list[str] = []
    for flag, value in _flags(handover):
        if _PLAIN.fullmatch(value):
            words += [flag, value]
        else:
            refused.append(value)
    return " ".join(words), tuple(refused)


def _flags(handover: Handover) -> list[tuple[str, str]]:
    return [
        *(("--cache-from", value) for value in handover.cache_from),
        *(("--cache-to", value) for value in handover.cache_to),
        *(("--output", value) for value in [handover.output] if value),
        *(("--build-arg", f"{name}={value}") for name, value in handover.build_args.items()),
    ]


def compose_override(handovers: Collection[Handover]) -> str:
    """Write a Compose file that is given after the project's own."""
    lines = [
        "# What `longshore cache-from` found: it changes how services are built, nothing else."
    ]
    told = [handover for handover in handovers if not handover.is_empty]
    if not told:
        return "\n".join([*lines, "services: {}"])
    lines.append("services:")
    for handover in told:
        lines += [f"  {_yaml(handover.service)}:", "    build:"]
        for key, values in (("cache_from", handover.cache_from), ("cache_to", handover.cache_to)):
            if values:
                lines.append(f"      {key}:")
                lines += [f"        - {_yaml(_without_variables(value))}" for value in values]
        if handover.build_args:
            lines.append("      args:")
            for name, value in handover.build_args.items():
                lines.append(f"        {name}: {_yaml(_without_variables(value))}")
    return "\n".join(lines)


def bake_override(handovers: Collection[Handover]) -> str:
    """Write a bake file that is given after the project's Compose file."""
    targets: dict[str, Any] = {}
    for handover in handovers:
        if handover.is_empty:
            continue
        target: dict[str, Any] = {}
        if handover.cache_from:
            target["cache-from"] = [_without_templates(value) for value in handover.cache_from]
        if handover.cache_to:
            target["cache-to"] = [_without_templates(value) for value in handover.cache_to]
        if handover.output:
            target["output"] = [handover.output]
        if handover.build_args:
            target["args"] = dict(handover.build_args)
        # The name that bake gives to the target of a Compose service.
        targets[handover.service.replace(".", "_")] = target
    # An empty block is an error in a bake file, an empty file is none.
    document: Mapping[str, Any] = {"target": targets} if targets else {}
    return json.dumps(document, indent=2)


def _yaml(text: str) -> str:
    """Write a YAML scalar in double quotes, which takes the escapes of JSON."""
    return json.dumps(text, ensure_ascii=False)


def _without_variables(text: str) -> str:
    return text.replace("$", "$$")


def _without_templates(text: str) -> str:
    return text.replace("${", "$${").replace("%{", "%%{")
