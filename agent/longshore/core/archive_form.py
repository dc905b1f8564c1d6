"""How images are sent to an engine with a graphdriver store: configs, layers and `manifest.json`.

Such an engine names an image by the digest of its config, and looks at a layer's member only if it
lacks the chain_id (moby, `image/tarexport/load.go`). Layers may be compressed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from longshore.core.archive import ManifestItem, blob_name, manifest_json
from longshore.core.digests import Digest, digest_of
from longshore.core.entry import Entry, Image
from longshore.core.images import ImageConfig, parse_config
from longshore.core.load_plan import Expected, Files, LoadForm, Stack, bare_config, stack_ids
from longshore.errors import NotCached

_ZSTD_SINCE = (23, 0, 0)  # moby, pkg/archive: earlier engines unpack gzip, bzip2 and xz only


class ArchiveForm(LoadForm):
    """Archives with a `manifest.json`, which name images by their configs."""

    def expected(self, entry: Entry) -> tuple[Expected, ...]:
        """List the images of an entry, by the digests of their configs."""
        config_of = {image.id: Digest(image.config) for image in entry.images}
        # Two images of a containerd store may differ in their attestations only.
        tags: dict[Digest, dict[str, None]] = {}
        parents: dict[Digest, Digest | None] = {}
        configs: dict[Digest, ImageConfig] = {}
        for image in entry.images:
            config = Digest(image.config)
            tags.setdefault(config, {}).update(dict.fromkeys(image.tags))
            parents.setdefault(config, None)
            if image.parent is None or parents[config] is not None:
                continue
            parent = config_of[image.parent]
            for name in (config, parent):
                if name not in configs:
                    configs[name] = parse_config(entry.documents[name])
            # Another one would fail the whole load.
            if parent != config and configs[config].was_built_on(configs[parent]):
                parents[config] = parent
        return tuple(Expected(config, tuple(tags[config]), parents[config]) for config in tags)

    def ids(self, entry: Entry) -> tuple[Digest, ...]:
        """Name each image by its config."""
        return tuple(Digest(image.config) for image in entry.images)

    def stack_ids(self, image: Image) -> Sequence[Digest]:
        """Name stacks by their chain_ids."""
        return stack_ids(image.diff_ids)

    def held(
        self, engine_images: Mapping[Digest, Sequence[Digest]], entries: Iterable[Entry]
    ) -> set[Digest]:
        """Tell the chain_ids of all images that the engine has."""
        return {chain for diff_ids in engine_images.values() for chain in stack_ids(diff_ids)}

    def images(self, entry: Entry) -> tuple[Image, ...]:
        """List all images: with the parents, every step of the chain can be a hit."""
        return entry.images

    def describe(self, entry: Entry) -> tuple[Files, tuple[Digest, ...]]:
        """Write configs and `manifest.json`."""
        layers = {Digest(image.config): image.layers for image in entry.images}
        items = [
            ManifestItem(image.id, image.tags, [Digest(d) for d in layers[image.id]], image.parent)
            for image in self.expected(entry)
        ]
        return _members({item.config: entry.documents[item.config] for item in items}, items), ()

    def describe_bare(
        self, stacks: Sequence[Stack], entries: Collection[Entry]
    ) -> tuple[Files, tuple[Digest, ...]]:
        """Write the configs of bare images, and their `manifest.json`."""
        platform = next(iter(entries)).platform
        configs: dict[Digest, bytes] = {}
        items: list[ManifestItem] = []
        for stack in stacks:
            config = bare_config(stack, platform)
            configs[digest_of(config)] = config
            items.append(ManifestItem(digest_of(config), (), [Digest(d) for d in stack.layers]))
        return _members(configs, items), tuple(configs)


def require_readable(entry: Entry, version: tuple[int, int, int] | None) -> None:
    """Refuse an entry whose layers an engine with a graphdriver store cannot unpack.

    Args:
        version: of the engine; `None` if it cannot be told.

    Raises:
        NotCached: layers are compressed by zstd, and the engine is older than 23.0.
    """
    if version is None or version >= _ZSTD_SINCE:
        return
    if any("zstd" in blob.media_type for blob in entry.blobs):
        raise NotCached(
            f"its layers are compressed by zstd, which Docker {version[0]}.{version[1]} cannot"
            " unpack; update it to 23.0 or later, or build with compression=gzip"
        )


def _members(configs: Mapping[Digest, bytes], items: Iterable[ManifestItem]) -> Files:
    files = {blob_name(digest): config for digest, config in configs.items()}
    return {**files, "manifest.json": manifest_json(items)}
