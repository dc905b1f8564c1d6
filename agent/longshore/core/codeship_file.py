"""Codeship's `codeship-services.yml`.

What the keys mean: Codeship Pro's documentation, "Services Configuration" and "Caching". Services
stand at the root, or in `services:`; `version` is ignored, and so is every key that is not known.
"""

from __future__ import annotations

from longshore.core.service import Context, Service, read_extension
from longshore.core.yaml_nodes import Scalar, Value

_ENCRYPTED_ARGS = ("encrypted_args", "encrypted_args_file")
_NO_SERVICES = ("version", "services", "volumes", "networks")


def read_codeship(root: Value, context: Context) -> tuple[tuple[Service, ...], tuple[str, ...]]:
    """Return the cached services of a Codeship file, and the names of the others."""
    section = root.get("services")
    entries = (section or root).entries()
    if section is None:
        entries = {
            name: entry
            for name, entry in entries.items()
            if name not in _NO_SERVICES and not name.startswith("x-")
        }
    cached: list[Service] = []
    uncached: list[str] = []
    for name, service in entries.items():
        if service.is_null:
            uncached.append(name)
            continue
        service.entries("a service")
        extension = read_extension(service, context)
        said = service.get("cached")
        is_cached = context.boolean(said) if said else False
        if extension.cached is not None:
            is_cached = extension.cached
        if is_cached:
            cached.append(_service(name, service, context).extended(extension))
        else:
            uncached.append(name)
    return tuple(cached), tuple(uncached)


def _service(name: str, service: Value, context: Context) -> Service:
    build = service.get("build")
    build_context = dockerfile = None
    build_args: tuple[str, ...] = ()
    has_encrypted_args = False
    image = service.get("image")
    if build and build.is_mapping:
        image = build.get("image") or image
        # `path` and `dockerfile_path` are the older names of the two.
        where = build.get("context") or build.get("path")
        file = build.get("dockerfile") or build.get("dockerfile_path")
        build_context, dockerfile = context.optional(where) or ".", context.optional(file)
        build_args = _build_args(build.get("args"), context)
        has_encrypted_args = any(build.get(key) for key in _ENCRYPTED_ARGS)
    elif build:
        build_context = context.text(build, "a directory, or a mapping with `image`")
        # As in Compose's first version, which Codeship read: the key stood beside `build`.
        dockerfile = context.optional(service.get("dockerfile"))
    if image is None:
        if build is None:
            raise service.error("a cached service needs an `image` or a `build`")
        raise build.error("the image has no name, and Codeship made one up: add `build.image`")
    return Service(
        name,
        (context.image(image),),
        build_context=build_context,
        dockerfile=dockerfile,
        default_fallback=context.optional(service.get("default_cache_branch")),
        build_args=build_args,
        has_encrypted_args=has_encrypted_args,
    )


def _build_args(args: Value | None, context: Context) -> tuple[str, ...]:
    """Read build arguments: a mapping, or a list of `NAME=value` and of names alone."""
    if args is None:
        return ()
    if not args.is_mapping:
        return tuple(context.text(arg) for arg in args.items("a mapping or a list"))
    return tuple(
        name if value.is_null else f"{name}={_argument(value, context)}"
        for name, value in args.entries().items()
    )


def _argument(value: Value, context: Context) -> str:
    """Return the text of a value; `true` and `yes` are texts here, too."""
    if isinstance(value.node, Scalar) and value.node.kind == "boolean":
        return value.node.text
    return context.text(value)
