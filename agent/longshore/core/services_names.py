"""How services files are called."""

from __future__ import annotations

from collections.abc import Iterable

CODESHIP_NAMES = ("codeship-services.yml", "codeship-services.yaml")
COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
"""In Compose's own order of preference (compose-go, `cli/options.go`, DefaultFileNames)."""


def find_services_file(names: Iterable[str]) -> str | None:
    """Choose the services file among the names in a directory; `None` if there is none.

    A Codeship file comes before a Compose file. Codeship itself reads `docker-compose.yml` only
    in the absence of `codeship-services.yml`; and that file is there for CI alone, while the
    Compose file beside it mostly describes the developers' machines. Who has moved on deletes it,
    or says `--services compose.yaml`.
    """
    present = set(names)
    return next((name for name in (*CODESHIP_NAMES, *COMPOSE_NAMES) if name in present), None)
