"""What the next build of a service is told, so that it uses what the engine and its disk hold.

What builders do with it was seen on engines 20.10.24, 26.1.5 and 28.5.2, with buildx 0.13.1 and
0.29.1; `docs/architecture.md`, "What makes the next build hit", has it. One rule stands above all:
a cache never makes a build fail. What could is left out, and a note says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from msgspec import Struct, field

from longshore.core.builder import DOCKER_DRIVER, Builder
from longshore.core.digests import Digest
from longshore.core.engine_facts import NO_INLINE_CACHE, parse_version
from longshore.core.history import command_of
from longshore.core.images import Step
from longshore.core.references import ImageReference

INLINE_CACHE: Mapping[str, str] = {"BUILDKIT_INLINE_CACHE": "1"}

# Plain layers, so that longshore finds what they share; the last one is for a cache on a disk that
# is full.
CACHE_EXPORT = (
    "mode=max",
    "compression=uncompressed",
    "force-compression=true",
    "oci-mediatypes=true",
    "ignore-error=true",
)
# BuildKit compresses the layers of an image as it writes it, on one core, and makes plain ones of
# them again for the cache directory.
PLAIN_IMAGE = ("type=image", "compression=uncompressed")


class HeldImage(Struct, frozen=True):
    """An image that the engine has; `steps` are base first."""

    names: tuple[str, ...]
    diff_ids: tuple[Digest, ...] = ()
    steps: tuple[Step, ...] = ()


class HeldDirectory(Struct, frozen=True):
    """A cache directory of BuildKit (`type=local`).

    Attributes:
        path: as builds shall get it.
        state: `absent` is a directory without a cache, too; `damaged` one that BuildKit refuses.
        served: the reference by which a build can fetch a cache for it; empty if there is none.
    """

    path: str
    state: Literal["absent", "usable", "damaged"]
    writable: bool = True
    served: str = ""


class Handover(Struct, frozen=True):
    """What one service is built with.

    Attributes:
        output: how the image is written, if it is not as usual; Compose cannot be told.
    """

    service: str
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    output: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell the build."""
        return not (self.cache_from or self.cache_to or self.output or self.build_args)


def hand_over(
    service: str,
    images: Sequence[HeldImage],
    directory: HeldDirectory | None,
    builder: Builder,
    *,
    plain_layers: bool = False,
    others: Collection[HeldImage] = (),
) -> Handover:
    """Decide what the next build of a service is told.

    Args:
        images: those of the service's images that the engine has; its own comes first.
        directory: the cache directory that the service declares.
        plain_layers: whether it asks for an image whose layers are not compressed.
        others: all tagged images of the engine; needed for the classic builder on a containerd
            store only.
    """
    if builder.kind == "classic":
        return _classic(service, images, directory, builder, others)
    if builder.driver != DOCKER_DRIVER or builder.image_store == "containerd":
        return _by_directory(service, directory, builder, plain_layers)
    return _inline(service, images, directory, builder)


def uses_images(builder: Builder) -> bool:
    """Tell whether a builder looks at the images that the engine has; when in doubt it does."""
    return builder.kind == "classic" or builder.image_store == "graphdriver"


def fetches_caches(builder: Builder) -> bool:
    """Tell whether a builder can use a cache directory that is offered to it as a registry."""
    return (
        builder.kind == "buildkit"
        and builder.driver == DOCKER_DRIVER
        and builder.image_store == "containerd"
    )


def _classic(
    service: str,
    images: Sequence[HeldImage],
    directory: HeldDirectory | None,
    builder: Builder,
    others: Collection[HeldImage],
) -> Handover:
    """Name images; the classic builder knows nothing else."""
    names: list[str] = []
    notes: list[str] = []
    # Stages first, which are worth the most: of images that begin with the same steps the builder
    # keeps to the first one.
    for image in [*images[1:], *images[:1]]:
        name = image.names[0]
        step = None
        if builder.image_store == "containerd":
            step = _stumbling_block(image, images, others)
        if step is None:
            names.append(name)
        else:
            notes.append(
                f"{name} is left out: on this image store the classic builder fails at a cached"
                f" step that made no layer ({command_of(step)}); build with BuildKit, and give the"
                f" service `x-longshore: {{buildkit_cache: .cache/{service}}}`"
            )
    if names and builder.tool == "compose":
        notes.append(
            "Compose does not tell the classic builder what to use; build with BuildKit, or with"
            " `docker build`"
        )
    if directory is not None:
        notes.append("the classic builder does not use the service's buildkit_cache")
    if not images:
        notes.append("the engine has none of its images")
    return Handover(service, cache_from=tuple(names), notes=tuple(notes))


def _stumbling_block(
    image: HeldImage, own: Sequence[HeldImage], others: Collection[HeldImage]
) -> Step | None:
    """Find the step at which restoring an image fails; `None` if there is none.

    On a containerd store the engine makes an image of each step that hits but the last, and cannot
    make one of a step without a layer (moby, daemon/containerd/cache.go: it passes an empty
    digest). Steps of the base image are not restored.
    """
    restored = image.steps[_base_length(image, own, others) : -1]
    return next((step for step in restored if step.empty_layer), None)


def _base_length(image: HeldImage, own: Sequence[HeldImage], others: Collection[HeldImage]) -> int:
    """Count the steps that are certainly the base image's.

    Any tagged image whose steps and layers the image begins with may be its base, or an earlier
    build of itself. So whatever has a name of the same repository does not count, and of all others
    the shortest one does: that is the base, or a base of the base.
    """
    repositories = {ImageReference.parse(name).repository for held in own for name in held.names}
    lengths = [
        len(other.steps)
        for other in others
        if 0 < len(other.steps) < len(image.steps)
        and image.steps[: len(other.steps)] == other.steps
        and image.diff_ids[: len(other.diff_ids)] == other.diff_ids
        and not repositories & {ImageReference.parse(name).repository for name in other.names}
    ]
    return min(lengths, default=0)


def _inline(
    service: str,
    images: Sequence[HeldImage],
    directory: HeldDirectory | None,
    builder: Builder,
) -> Handover:
    """Name images by tag, and have the next ones made with an inline cache.

    BuildKit on a graphdriver store finds the cache in an image's config. An image without one is
    harmless. It reads cache directories, too, but to write one is an error.
    """
    names = [image.names[0] for image in images if "@" not in image.names[0]]
    notes: list[str] = []
    numbers = parse_version(builder.version)
    if names and numbers and NO_INLINE_CACHE[0] <= numbers < NO_INLINE_CACHE[1]:
        notes.append(
            f"BuildKit of Docker {builder.version} does not find the cache in loaded images"
            " (moby/buildkit#5242); update to 27.2.0 or later"
        )
    if not images:
        notes.append("the engine has none of its images")
    if directory is not None:
        if directory.state == "usable":
            names.append(_attributes("type=local", f"src={directory.path}"))
        notes.append(
            "this engine cannot write the service's buildkit_cache, and keeps the cache in images"
        )
    return Handover(service, tuple(names), build_args=INLINE_CACHE, notes=tuple(notes))


def _by_directory(
    service: str, directory: HeldDirectory | None, builder: Builder, plain_layers: bool
) -> Handover:
    """Name the cache directory, for builders that do not look at the engine's images."""
    notes: list[str] = []
    output = ""
    who = "BuildKit on this image store"
    if builder.driver != DOCKER_DRIVER:  # whose images the engine gets by a load, if at all
        who = f"a builder with the driver {builder.driver}"
    elif plain_layers and builder.tool == "compose":
        notes.append(
            "Compose cannot be told to leave its image uncompressed, so it is built as usual; build"
            " with `docker build` or `docker buildx bake`"
        )
    elif plain_layers:
        output = _attributes(*PLAIN_IMAGE)
    if directory is None:
        note = (
            f"{who} does not use loaded images; give the service"
            f" `x-longshore: {{buildkit_cache: .cache/{service}}}`"
        )
        return Handover(service, output=output, notes=(*notes, note))
    if directory.state == "damaged":
        # Builds would fail: those that read it, and those that write to it.
        note = f"{directory.path} is left out: its index.json is damaged; remove the directory"
        return Handover(service, output=output, notes=(*notes, note))
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    if directory.served:
        cache_from = (_attributes("type=registry", f"ref={directory.served}"),)
    elif directory.state == "usable":
        cache_from = (_attributes("type=local", f"src={directory.path}"),)
    else:
        notes.append(f"there is no cache in {directory.path} yet")
    if directory.writable:
        cache_to = (_attributes("type=local", f"dest={directory.path}", *CACHE_EXPORT),)
    else:
        notes.append(f"{directory.path} cannot be written, so the build adds nothing to it")
    return Handover(service, cache_from, cache_to, output, notes=tuple(notes))


def _attributes(*pairs: str) -> str:
    """Write attributes as buildx reads them: a line of CSV."""
    return ",".join(
        '"' + pair.replace('"', '""') + '"' if set(pair) & set(',"\n\r') else pair for pair in pairs
    )
