"""Which services a project caches, and how their images are called.

Two kinds of file say so: a Compose file (`compose_file.py`) or a Codeship one
(`codeship_file.py`). Images can also be named without a file (`--image`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from longshore.core.codeship_file import read_codeship
from longshore.core.compose_file import read_compose
from longshore.core.references import ImageReference
from longshore.core.service import Context, Service, ServicesFile, project_name_of
from longshore.core.services_names import CODESHIP_NAMES, COMPOSE_NAMES, find_services_file
from longshore.core.yaml_nodes import Value
from longshore.core.yaml_reader import parse_yaml
from longshore.errors import UsageError

__all__ = [
    "CODESHIP_NAMES",
    "COMPOSE_NAMES",
    "Service",
    "ServicesFile",
    "find_services_file",
    "parse_image_option",
    "parse_image_options",
    "parse_services",
]


def parse_services(
    text: str | bytes,
    *,
    path: str,
    environment: Mapping[str, str],
    project_name: str | None = None,
    directory_name: str,
) -> ServicesFile:
    """Read a services file of either kind.

    `include` and `extends` are not followed: what they bring in is not seen.

    Args:
        path: as errors shall name it. Its last part tells the kind; a file by another name is a
            Codeship file if its services stand at the root or have keys that only Codeship knows.
        environment: for interpolation, with the variables of `.env` already in it.
        project_name: what `docker compose --project-name` is given in this build, if anything. It
            names the images that have no name. It is not longshore's `--project`: that one says
            where the cache is kept, and Compose never hears of it.
        directory_name: the last part of the absolute path of the file's directory.

    Raises:
        UsageError: the file cannot be read, or says something impossible; the message names file,
            line and key.
    """
    root = parse_yaml(text, path=path)
    if not root.is_mapping:
        raise root.error("expected services, but the file does not hold a mapping")
    kind = _kind_of(root, path)
    name = root.get("name") if kind == "compose" else None
    context = Context(environment)
    project = project_name_of(name, context, project_name, directory_name)
    context = context.with_project(project)
    if kind == "compose":
        services, uncached = read_compose(root, context, project)
    else:
        services, uncached = read_codeship(root, context)
    return ServicesFile(path, kind, project, services, uncached, tuple(context.unset))


def parse_image_option(option: str) -> Service:
    """Read `--image web=myorg/web:latest`.

    Raises:
        UsageError: it is not `service=image`.
    """
    name, equals, image = option.partition("=")
    if not equals or not name.strip() or not image.strip():
        raise UsageError(
            f"--image {option[:200]!r}: expected service=image, such as web=myorg/web:latest"
        )
    try:
        reference = ImageReference.parse(image.strip())
    except UsageError as error:
        raise UsageError(f"--image {option[:200]!r}: {error}") from None
    return Service(name.strip(), (reference,))


def parse_image_options(options: Iterable[str]) -> tuple[Service, ...]:
    """Read all `--image` options; a name that comes again adds further images.

    Raises:
        UsageError: one of them is not `service=image`.
    """
    services: dict[str, Service] = {}
    for option in options:
        service = parse_image_option(option)
        known = services.get(service.name)
        services[service.name] = known.with_images(service.images) if known else service
    return tuple(services.values())


def _kind_of(root: Value, path: str) -> Literal["compose", "codeship"]:
    name = path.replace("\\", "/").rpartition("/")[2].lower()
    if name in COMPOSE_NAMES:
        return "compose"
    if name in CODESHIP_NAMES or not {"services", "include"} & root.entries().keys():
        return "codeship"
    services = root.get("services")
    if services is not None and services.is_mapping:
        for service in services.entries().values():
            build = service.get("build")
            if any(service.get(key) for key in ("cached", "default_cache_branch")) or (
                build and build.get("image")
            ):
                return "codeship"
    return "compose"
