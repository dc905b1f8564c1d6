"""A cached service, and what reading both kinds of services files has in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, Self

from msgspec import Struct, field
from msgspec.structs import replace

from longshore.core.interpolation import interpolate
from longshore.core.references import ImageReference
from longshore.core.yaml_nodes import Scalar, Value
from longshore.errors import UsageError

EXTENSION = "x-longshore"
SERVICE_KEYS = ("cached", "image", "images", "buildkit_cache", "image_compression")
_COMPRESSIONS = ("gzip", "uncompressed")
_TOP_LEVEL_KEYS = ("cached",)


class Service(Struct, frozen=True):
    """One service of which something is kept."""

    name: str
    images: tuple[ImageReference, ...]
    """The service image first, then those of further build stages; none twice."""
    build_context: str | None = None
    dockerfile: str | None = None
    target: str | None = None
    inline_dockerfile: bool = False
    """Whether the services file holds the Dockerfile itself."""
    default_fallback: str | None = None
    """The branch that Codeship's `default_cache_branch` names."""
    buildkit_cache: str | None = None
    keeps_image: bool = True
    """Whether its images are kept; else the cache directory is all that is."""
    plain_layers: bool = False
    """Whether its builds shall leave the layers of its image uncompressed where they can."""
    build_args: tuple[str, ...] = ()
    """Of a Codeship file, as `docker build --build-arg` takes them; Compose reads its own."""
    has_encrypted_args: bool = False
    """Whether there are further ones that only Codeship could read."""

    def with_images(self, images: tuple[ImageReference, ...]) -> Self:
        """Return the service with further images."""
        return replace(self, images=tuple(dict.fromkeys((*self.images, *images))))

    def extended(self, extension: Extension) -> Self:
        """Return the service with what its `x-longshore` says of it."""
        return replace(
            self.with_images(extension.images),
            buildkit_cache=extension.buildkit_cache,
            keeps_image=extension.keeps_image,
            plain_layers=extension.plain_layers,
        )


class ServicesFile(Struct, frozen=True):
    """What a services file says."""

    path: str
    kind: Literal["compose", "codeship"]
    project_name: str | None
    services: tuple[Service, ...]
    """The cached ones, in the order of the file."""
    uncached: tuple[str, ...]
    unset_variables: tuple[str, ...] = ()
    """Used without a default where longshore looked; they became the empty string."""


class Context(Struct, frozen=True):
    """What values are interpolated from; notes what was missing."""

    environment: Mapping[str, str]
    unset: list[str] = field(default_factory=list)

    def text(self, value: Value, expected: str = "text") -> str:
        """Return a text with its variables replaced."""
        raw = value.text(expected)
        try:
            return interpolate(raw, self.environment, on_unset=self._note)
        except UsageError as error:
            raise value.error(str(error)) from None

    def optional(self, value: Value | None) -> str | None:
        """Return a text, or `None` if it is left out or comes out empty."""
        return (self.text(value) or None) if value else None

    def boolean(self, value: Value) -> bool:
        """Return a truth value, which may come from a variable."""
        if isinstance(value.node, Scalar) and value.node.kind == "text":
            value = replace(value, node=replace(value.node, text=self.text(value)))
        return value.boolean()

    def image(self, value: Value) -> ImageReference:
        """Return the image that a value names."""
        text = self.text(value, "the name of an image")
        try:
            return ImageReference.parse(text)
        except UsageError as error:
            raise value.error(str(error)) from None

    def with_project(self, project: str | None) -> Self:
        """Return the context in which `COMPOSE_PROJECT_NAME` is known, as Compose sets it."""
        if project is None:
            return self
        return replace(self, environment={**self.environment, "COMPOSE_PROJECT_NAME": project})

    def _note(self, name: str) -> None:
        if name not in self.unset:
            self.unset.append(name)


class Extension(Struct, frozen=True):
    """What `x-longshore` says; `cached` is `None` if it does not say."""

    cached: bool | None = None
    keeps_image: bool = True
    images: tuple[ImageReference, ...] = ()
    buildkit_cache: str | None = None
    plain_layers: bool = False


def read_extension(parent: Value, context: Context, *, top_level: bool = False) -> Extension:
    """Read the `x-longshore` of a service, or of the whole file.

    Raises:
        UsageError: it holds a key that is not known there, or a value of another type.
    """
    value = parent.get(EXTENSION)
    if value is None:
        return Extension()
    known = _TOP_LEVEL_KEYS if top_level else SERVICE_KEYS
    for name, entry in value.entries("a mapping such as {cached: true}").items():
        if name not in known:
            raise entry.error(f"unknown key; known here: {', '.join(known)}")
    cached, image, images = value.get("cached"), value.get("image"), value.get("images")
    keeps_image = context.boolean(image) if image else True
    if image and not keeps_image:
        if images:
            raise images.error("`image: false` says that none is kept; leave one of the two away")
        if not value.get("buildkit_cache"):
            raise image.error("nothing of the service would be kept; give it a `buildkit_cache`")
    return Extension(
        cached=context.boolean(cached) if cached else None,
        keeps_image=keeps_image,
        images=tuple(
            context.image(image) for image in (images.items("a list of images") if images else ())
        ),
        buildkit_cache=context.optional(value.get("buildkit_cache")),
        plain_layers=_has_plain_layers(value.get("image_compression"), context),
    )


def _has_plain_layers(value: Value | None, context: Context) -> bool:
    compression = context.optional(value)
    if value and compression not in (None, *_COMPRESSIONS):
        raise value.error(f"no compression of images; known here: {', '.join(_COMPRESSIONS)}")
    return compression == "uncompressed"


def project_name_of(
    name: Value | None, context: Context, given: str | None, directory_name: str
) -> str | None:
    """Find the name that Compose gives the project; `None` if nothing makes one.

    In Compose's order: `--project-name`, `COMPOSE_PROJECT_NAME`, `name:`, the directory
    (compose-go, `cli/options.go` and `loader/loader.go`). The first two have to be valid as they
    are; the others are made valid.
    """
    for source, text in (
        ("the project name", given),
        ("COMPOSE_PROJECT_NAME", context.environment.get("COMPOSE_PROJECT_NAME")),
    ):
        if text:
            if text != _normalised(text):
                raise UsageError(
                    f"{source} {text[:80]!r} is not a Compose project name: it has to be of "
                    "a-z 0-9 _ -, and begin with a letter or digit"
                )
            return text
    if name is None:
        return _normalised(directory_name) or None
    project = _normalised(context.text(name))
    if not project:
        raise name.error("the project name comes out empty")
    return project


def _normalised(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "", name.lower()).lstrip("_-")
