"""Compose files: which services are cached, and what Compose calls their images."""

from __future__ import annotations

import re

from longshore.core.references import ImageReference
from longshore.core.service import (
    EXTENSION,
    SERVICE_KEYS,
    Context,
    Extension,
    Service,
    read_extension,
)
from longshore.core.yaml_nodes import Value
from longshore.errors import UsageError

_NAME = re.compile(r"[a-zA-Z0-9._-]+")  # Compose's schema: services, patternProperties


def read_compose(
    root: Value, context: Context, project: str | None
) -> tuple[tuple[Service, ...], tuple[str, ...]]:
    """Return the cached services of a Compose file, and the names of the others.

    A service is cached if its `x-longshore` says so; if that does not say, and the service has a
    `build`, the `x-longshore` of the file counts.
    """
    every_build = read_extension(root, context, top_level=True).cached or False
    section = root.get("services")
    cached: list[Service] = []
    uncached: list[str] = []
    for name, service in (section.entries() if section else {}).items():
        if not _NAME.fullmatch(name):
            raise service.error("a service's name has to be of a-z A-Z 0-9 . _ -")
        if service.is_null:
            uncached.append(name)
            continue
        service.entries()
        if stray := service.get("cached"):
            raise stray.error(f"not a key of Compose; write `{EXTENSION}: {{cached: true}}`")
        extension = read_extension(service, context)
        if _is_cached(service, extension, every_build):
            directory = extension.buildkit_cache
            if directory and directory in (other.buildkit_cache for other in cached):
                raise service.error(f"another service has the same buildkit_cache {directory!r}")
            cached.append(_service(name, service, extension, context, project))
        else:
            uncached.append(name)
    return tuple(cached), tuple(uncached)


def _is_cached(service: Value, extension: Extension, every_build: bool) -> bool:
    if extension.cached is not None:
        return extension.cached
    if every_build and service.get("build"):
        return True
    for key in SERVICE_KEYS:
        value = service.get(EXTENSION)
        if value and (said := value.get(key)):
            raise said.error("the service is not cached; add `cached: true` beside it")
    return False


def _service(
    name: str, service: Value, extension: Extension, context: Context, project: str | None
) -> Service:
    build, image = service.get("build"), service.get("image")
    if image and not context.text(image, "the name of an image"):
        image = None  # as in Compose: `image: ${IMAGE:-}` is no image
    if image:
        reference = context.image(image)
    elif build:
        reference = _default_image(name, service, context, project)
    elif service.get("extends"):
        raise service.error("longshore does not follow `extends`: give the service an `image` here")
    else:
        raise service.error("a cached service needs an `image` or a `build`")
    context_path, dockerfile = _read_build(build, context)
    return Service(
        name,
        (reference,),
        build_context=context_path,
        dockerfile=dockerfile,
        target=context.optional(build.get("target")) if build and build.is_mapping else None,
        inline_dockerfile=bool(build and build.is_mapping and build.get("dockerfile_inline")),
    ).extended(extension)


def _default_image(
    name: str, service: Value, context: Context, project: str | None
) -> ImageReference:
    """Name an image as `docker compose build` does: `<project>-<service>`."""
    if project is None:
        raise service.error(
            "the image has no name, since the project has none: add `name:` to the file, "
            "or `image:` to the service"
        )
    # Compose's --compatibility, which this variable stands for, keeps version 1's separator.
    old = context.environment.get("COMPOSE_COMPATIBILITY", "").lower() in ("1", "t", "true", "y")
    try:
        return ImageReference.parse(f"{project}{'_' if old else '-'}{name}")
    except UsageError as error:
        raise service.error(f"{error}; give the service an `image`") from None


def _read_build(build: Value | None, context: Context) -> tuple[str | None, str | None]:
    """Return the context and the Dockerfile of either form of `build`."""
    if build is None:
        return None, None
    if not build.is_mapping:
        return context.text(build, "a directory, or a mapping with `context`"), None
    return context.optional(build.get("context")) or ".", context.optional(build.get("dockerfile"))
