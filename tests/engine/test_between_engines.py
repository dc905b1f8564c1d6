"""What one engine exported is imported by every other one, whatever its release and image store."""

from __future__ import annotations

import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.engine_fixtures import FreshEngine, prepare_engine
from tests.support.builds import BUILDERS, build
from tests.support.engines import Generation, ImageStore, ThrowawayEngine
from tests.support.images import import_busybox
from tests.support.machines import KINDS, Machine, is_there_memory

DOCKERFILE = """\
FROM base:1
ENV GREETING=hello
RUN echo $GREETING >/greeting && mkdir /empty
COPY Dockerfile /twice/
COPY Dockerfile /twice/again
CMD ["cat", "/greeting"]
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an engine says of an image; `config` is the digest of its config's bytes."""

    id: str
    config: str
    diff_ids: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """What every kind of engine built, with each builder, and exported.

    Attributes:
        store: one for all.
        facts: of each image, with the image store that it comes from.
    """

    project: Path
    store: Path
    facts: dict[str, tuple[ImageStore, Facts]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Build and export on every kind of engine; the engines are gone when the tests begin."""
    folder = tmp_path_factory.mktemp("exported")
    project, store = folder / "project", folder / "store"
    project.mkdir()
    (project / "Dockerfile").write_text(DOCKERFILE)
    services = {
        f"{image_store}-{generation}-{builder.lower()}": builder
        for generation, image_store in KINDS
        for builder in BUILDERS
    }
    declared = {name: {"image": f"{name}:1", "x-longshore": {"cached": True}} for name in services}
    (project / "compose.yaml").write_text(json.dumps({"name": "shop", "services": declared}))

    def export(kind: tuple[Generation, ImageStore]) -> dict[str, tuple[ImageStore, Facts]]:
        generation, image_store = kind
        names = [name for name in services if name.startswith(f"{image_store}-{generation}-")]
        with prepare_engine(generation, image_store, in_memory=is_there_memory()) as engine:
            import_busybox(engine.api, "base:1")
            for name in names:
                words = ["--network=host", "--tag", f"{name}:1", "."]
                build(engine, services[name], project, words)
                engine.api.images.get(f"{name}:1").tag(name, "also")
            Machine(engine, project, "BuildKit", store).longshore("export", *names)
            return {f"{name}:1": (image_store, facts_of(engine, f"{name}:1")) for name in names}

    with ThreadPoolExecutor(2) as pool:  # one engine at a time leaves half of the machine idle
        parts = list(pool.map(export, KINDS))
    return Exported(project, store, {image: it for part in parts for image, it in part.items()})


@pytest.mark.parametrize(("generation", "image_store"), KINDS)
def test_images_of_every_engine_arrive_with_config_layers_and_tags_and_run(
    generation: Generation,
    image_store: ImageStore,
    exported: Exported,
    fresh_engine: FreshEngine,
) -> None:
    engine = fresh_engine(generation, image_store, in_memory=is_there_memory())

    Machine(engine, exported.project, "BuildKit", exported.store).longshore("import")

    assert len(exported.facts) == len(KINDS) * len(BUILDERS)
    for image, (origin, before) in exported.facts.items():
        after = facts_of(engine, image)
        assert (after.config, after.diff_ids) == (before.config, before.diff_ids), image
        assert after.tags == before.tags, image
        # Images are named by their config in one kind of store, by their manifest in the other.
        assert (after.id == before.id) == (origin == image_store), image
        said = engine.api.containers.run(image, network_mode="none", remove=True)
        assert said == b"hello\n", image


def facts_of(engine: ThrowawayEngine, image: str) -> Facts:
    """Ask an engine for an image, and have it saved: that tells what its config is."""
    api: Any = engine.api.api
    found = api.inspect_image(image)
    with tarfile.open(fileobj=io.BytesIO(b"".join(api.get_image(image)))) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        (item,) = json.load(manifest)
    return Facts(
        found["Id"],
        Path(item["Config"]).name.removesuffix(".json"),
        tuple(found["RootFS"]["Layers"]),
        tuple(sorted(found["RepoTags"])),
    )
