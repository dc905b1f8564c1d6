"""On real engines: what `longshore cache-from` says makes the next machine's build warm."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.engine_fixtures import FreshEngine
from tests.support.builds import Builder, Steps, read_steps
from tests.support.engines import Generation, ImageStore, ThrowawayEngine
from tests.support.images import import_busybox, transfer

COMPOSE = """
name: shop
services:
  web:
    build: {context: ., network: host}
    image: shop-web
    x-longshore: {cached: true, images: ["shop-web:deps"], buildkit_cache: .cache/web}
"""
# No two stages begin alike, which the classic builder does not stand.
DOCKERFILE = """
FROM base:1 AS deps
WORKDIR /deps
COPY lock /lock
RUN cp /lock /deps/done
FROM base:1
COPY --from=deps /deps/done /done
RUN echo built > /built
CMD ["cat", "/built"]
"""
STAGE = "docker build --network=host --target deps -t shop-web:deps "
BUILD = "docker build --network=host -t shop-web "
FLAGS = "$(longshore cache-from web) ."


class Machine:
    """An engine, a checkout, and the store that all machines share."""

    def __init__(self, engine: ThrowawayEngine, folder: Path, builder: Builder | None) -> None:
        self.engine = engine
        self.folder = folder / "shop"
        self.store = folder.parent / "store"
        self.builder = builder
        self.variables: dict[str, str] = {}
        self.folder.mkdir(parents=True)
        self.write("compose.yaml", COMPOSE)
        self.write("Dockerfile", DOCKERFILE)
        self.write("lock", "lock")
        self.write(".dockerignore", ".cache\n")
        shim = folder / "bin" / "longshore"
        shim.parent.mkdir()
        shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m longshore "$@"\n')
        shim.chmod(0o755)
        self._path = shim.parent

    @property
    def keeps_stages(self) -> bool:
        """Whether stages are kept as images; a cache directory has them without that."""
        return self.builder == "classic" or self.engine.image_store == "graphdriver"

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def use_codeship(self, services: str) -> None:
        """Put a services file of Codeship's in the place of Compose's."""
        (self.folder / "compose.yaml").unlink()
        self.write("codeship-services.yml", services)
        self.variables["LONGSHORE_PROJECT"] = "shop"

    def run(self, script: str, *, code: int = 0) -> str:
        """Run a shell script in the checkout, and return all that it wrote."""
        environment = self.engine.environment()
        if self.builder is not None:
            environment["DOCKER_BUILDKIT"] = "1" if self.builder == "BuildKit" else "0"
        done = subprocess.run(
            ["sh", "-ec", script],
            cwd=self.folder,
            env={
                **environment,
                "PATH": f"{self._path}:{environment['PATH']}",
                "BUILDKIT_PROGRESS": "plain",
                "LONGSHORE_STORE": self.store.as_uri(),
                "LONGSHORE_SCOPE": "main",
                "GIT_CEILING_DIRECTORIES": str(self.folder.parent),
                **self.variables,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{script} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def steps(self, script: str) -> Steps:
        """Run a build, and say which steps it took from the cache."""
        return read_steps(self.builder or "BuildKit", self.run(script))


class NextMachine:
    """Makes machines one after the other, each with the same base image and a fresh checkout."""

    def __init__(self, engines: FreshEngine, folder: Path) -> None:
        self._engines = engines
        self._folder = folder
        self._made: list[ThrowawayEngine] = []

    def __call__(
        self,
        store: ImageStore = "graphdriver",
        builder: Builder | None = "BuildKit",
        generation: Generation = "28.5",
    ) -> Machine:
        engine = self._engines(generation, store)
        if self._made:
            transfer(self._made[0].api, engine.api, "base:1")
        else:
            import_busybox(engine.api, "base:1")
        self._made.append(engine)
        return Machine(engine, self._folder / str(len(self._made)), builder)


@pytest.fixture
def machine(fresh_engine: FreshEngine, tmp_path: Path) -> NextMachine:
    return NextMachine(fresh_engine, tmp_path)


@pytest.mark.parametrize(
    ("generation", "store", "builder"),
    [
        ("20.10", "graphdriver", "classic"),
        ("26.1", "graphdriver", "classic"),
        ("26.1", "graphdriver", "BuildKit"),
        ("26.1", "containerd", "BuildKit"),
        ("28.5", "graphdriver", "classic"),
        ("28.5", "graphdriver", "BuildKit"),
        ("28.5", "containerd", "classic"),
        ("28.5", "containerd", "BuildKit"),
    ],
)
def test_flags_of_a_cold_build_and_of_the_next_one_make_every_step_hit(
    machine: NextMachine, generation: Generation, store: ImageStore, builder: Builder
) -> None:
    before = machine(store, builder, generation)
    cold = before.steps(BUILD + FLAGS)
    if before.keeps_stages:
        before.run(STAGE + FLAGS)
    before.run("longshore export")

    after = machine(store, builder, generation)
    after.run("longshore import")
    warm = after.steps(BUILD + FLAGS)

    assert len(cold.ran) >= 4
    assert warm.ran == ()
    assert len(warm.cached) >= 4


@pytest.mark.parametrize("store", ["graphdriver", "containerd"])
@pytest.mark.parametrize("bake", ["true", "false"])
def test_compose_override_makes_every_step_hit(
    machine: NextMachine, store: ImageStore, bake: str
) -> None:
    script = (
        "longshore cache-from --format compose --output longshore.cache.yaml\n"
        "docker compose -f compose.yaml -f longshore.cache.yaml build"
    )
    before, after = machine(store), machine(store)
    before.variables["COMPOSE_BAKE"] = after.variables["COMPOSE_BAKE"] = bake
    cold = before.steps(script)
    before.run("longshore export")

    after.run("longshore import")
    warm = after.steps(script)

    assert len(cold.ran) == 5
    assert warm.ran == ()


@pytest.mark.parametrize("store", ["graphdriver", "containerd"])
def test_bake_override_makes_every_step_hit(machine: NextMachine, store: ImageStore) -> None:
    script = (
        "longshore cache-from --format bake --output longshore.bake.json\n"
        "docker buildx bake --allow network.host -f compose.yaml -f longshore.bake.json"
    )
    before, after = machine(store), machine(store)
    cold = before.steps(script)
    before.run("longshore export")

    after.run("longshore import")
    warm = after.steps(script)

    assert len(cold.ran) == 5
    assert warm.ran == ()


def test_bake_leaves_an_image_uncompressed_that_the_service_wants_so(machine: NextMachine) -> None:
    here = machine("containerd")
    asks = "buildkit_cache: .cache/web, image_compression: uncompressed"
    here.write("compose.yaml", COMPOSE.replace("buildkit_cache: .cache/web", asks))

    here.run(
        "longshore cache-from --format bake --output longshore.bake.json\n"
        "docker buildx bake --allow network.host -f compose.yaml -f longshore.bake.json"
    )
    assert _layers(here) - _layers(here, "base:1") <= _cached(here)
    assert here.run("docker run --rm --network=none shop-web") == "built\n"


@pytest.mark.parametrize("form", ["compose", "bake"])
def test_override_of_nothing_is_accepted(machine: NextMachine, form: str) -> None:
    here = machine("containerd")
    here.write("compose.yaml", COMPOSE.replace(", buildkit_cache: .cache/web", ""))
    build = {
        "compose": "docker compose -f compose.yaml -f out build",
        "bake": "docker buildx bake --allow network.host -f compose.yaml -f out",
    }

    here.run(f"longshore cache-from --format {form} --output out")
    assert len(here.steps(build[form]).ran) == 5


@pytest.mark.parametrize("generation", ["26.1", "28.5"])
def test_classic_builder_on_containerd_fails_with_an_image_that_is_left_out(
    machine: NextMachine, generation: Generation
) -> None:
    dockerfile = "FROM base:1\nENV A=1\nRUN echo built > /built\n"
    before = machine("containerd", "classic", generation)
    before.write("Dockerfile", dockerfile)
    before.run(BUILD + ".")
    after = machine("containerd", "classic", generation)
    after.write("Dockerfile", dockerfile)
    transfer(before.engine.api, after.engine.api, "shop-web:latest")

    failed = after.run(BUILD + "--cache-from shop-web:latest .", code=1)
    assert "failed to restore cached image" in failed
    told = json.loads(after.run("longshore cache-from web --json 2>/dev/null"))["services"][0]
    assert told["cache_from"] == []
    assert "(ENV A=1)" in told["notes"][0]
    assert after.steps(BUILD + "$(longshore cache-from web) .").cached == ()


@pytest.mark.parametrize("generation", ["26.1", "28.5"])
def test_classic_builder_on_containerd_does_not_mind_steps_of_the_base(
    machine: NextMachine, generation: Generation
) -> None:
    before = machine("containerd", "classic", generation)
    before.write("Base", "FROM base:1\nENV A=1\nRUN echo base > /base\n")
    before.run("docker build --network=host -t node:20 -f Base .")
    dockerfile = 'FROM node:20\nRUN echo deps > /deps\nRUN echo built > /built\nCMD ["sh"]\n'
    before.write("Dockerfile", dockerfile)
    before.run(BUILD + ".")
    after = machine("containerd", "classic", generation)
    after.write("Dockerfile", dockerfile)
    for image in ("node:20", "shop-web:latest"):
        transfer(before.engine.api, after.engine.api, image)
    after.run("docker rmi base:1")  # of two possible bases, only the steps of the shorter count

    warm = after.steps(BUILD + FLAGS)
    assert (warm.ran, len(warm.cached)) == ((), 3)


Damage = Callable[[Path], object]


def cut_index(cache: Path) -> None:
    (cache / "index.json").write_text('{"schemaV')


def untag(cache: Path) -> None:
    (cache / "index.json").write_text((cache / "index.json").read_text().replace("latest", "no"))


def lose_manifest(cache: Path) -> None:
    for name in _digests((cache / "index.json").read_text()):
        (cache / "blobs" / "sha256" / name).unlink()


def lose_a_layer(cache: Path) -> None:
    (manifest,) = _digests((cache / "index.json").read_text())
    for name in _digests((cache / "blobs" / "sha256" / manifest).read_text()):
        if (cache / "blobs" / "sha256" / name).stat().st_size < 100_000:
            (cache / "blobs" / "sha256" / name).unlink()
            return


def _digests(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r'"digest":"sha256:([0-9a-f]{64})"', text)))


@pytest.mark.parametrize("damage", [cut_index, untag, lose_manifest, lose_a_layer])
def test_damaged_cache_directory_does_not_fail_the_build(
    machine: NextMachine, damage: Damage
) -> None:
    here = machine("containerd")
    here.run(BUILD + FLAGS)
    here.run("docker buildx prune --all --force")
    damage(here.folder / ".cache" / "web")

    assert len(here.steps(BUILD + FLAGS).ran + here.steps(BUILD + FLAGS).cached) == 10


def test_cache_directory_that_cannot_be_made_does_not_fail_the_build(machine: NextMachine) -> None:
    here = machine("containerd")
    here.write(".cache", "a file")

    assert len(here.steps(BUILD + FLAGS).ran) == 5


def two(machine: NextMachine, store: ImageStore, said: str = "") -> tuple[Machine, Machine]:
    """Make two machines whose service has no further images, and says something instead."""
    machines = machine(store), machine(store)
    for here in machines:
        here.write("compose.yaml", COMPOSE.replace('images: ["shop-web:deps"], ', said))
    return machines


@pytest.mark.parametrize("store", ["graphdriver", "containerd"])
def test_longshore_build_does_it_all_on_two_machines(
    machine: NextMachine, store: ImageStore
) -> None:
    before, after = two(machine, store)

    first = before.run("longshore build")
    assert "no cached image for web" in first
    assert "exported 1 service" in first
    assert len(read_steps("BuildKit", first).ran) == 5
    second = after.run("longshore build web")
    assert "web: hit from scope main" in second
    assert ("not loaded" in second) == (store == "containerd")  # its builder looks at no image
    assert read_steps("BuildKit", second).ran == ()
    assert after.run("docker run --rm --network=none shop-web") == "built\n"


def test_without_its_image_a_service_is_built_from_its_directory_and_less_is_stored(
    machine: NextMachine,
) -> None:
    before, after = two(machine, "containerd", "image: false, ")

    first = before.run("longshore build")
    assert "exported 1 BuildKit cache" in first
    assert not list(before.store.rglob("entries/web/*"))
    second = after.run("longshore import; docker build --network=host -t shop-web " + FLAGS)
    assert re.search(
        "web: hit from scope main, (just stored|[0-9.]+ s old); its image is not kept", second
    )
    assert read_steps("BuildKit", second).ran == ()


def test_longshore_build_reads_what_compose_reads_by_itself(machine: NextMachine) -> None:
    here = machine()
    here.write("Dockerfile", "FROM base:1\nARG WHO=nobody\nRUN echo $WHO > /who\n")
    for name, who in (("compose.override.yml", "first"), ("compose.override.yaml", "second")):
        here.write(name, f"services: {{web: {{build: {{args: {{WHO: {who}}}}}}}}}\n")
    shown = "docker run --rm --network=none shop-web cat /who"

    here.run("docker compose build")
    by_itself = here.run(shown)
    here.run("docker rmi shop-web; longshore build")
    assert here.run(shown) == by_itself == "first\n"
    here.run("longshore build --services compose.yaml")
    assert here.run(shown) == "nobody\n"
    here.variables["COMPOSE_FILE"] = "compose.yaml:compose.override.yaml"
    here.run("longshore build")
    assert here.run(shown) == "second\n"


def test_longshore_build_of_a_failing_dockerfile_gives_the_builds_exit_code(
    machine: NextMachine,
) -> None:
    here = machine()
    here.write("Dockerfile", "FROM base:1\nRUN exit 7\n")

    said = here.run("longshore build; echo never", code=1)
    assert "the build ended with exit code 1; nothing is exported" in said
    assert "never" not in said


def test_longshore_build_of_a_codeship_file(machine: NextMachine) -> None:
    before, after = machine("graphdriver", None), machine("graphdriver", None)
    for here in (before, after):
        here.use_codeship("web: {cached: true, build: {image: shop-web, args: {A: b}}}\n")

    before.run("longshore build -- --network=host")
    second = after.run("longshore build -- --network=host")
    assert "web: hit from scope main" in second
    assert read_steps("BuildKit", second).ran == ()


@pytest.mark.parametrize("generation", ["26.1", "28.5"])
def test_image_left_uncompressed_runs_and_shares_its_layers_with_the_cache(
    machine: NextMachine, generation: Generation
) -> None:
    before, after = (machine("containerd", generation=generation) for _ in range(2))
    for here in (before, after):
        here.use_codeship(
            "web: {cached: true, build: {image: shop-web}, x-longshore:"
            " {buildkit_cache: .cache/web, image_compression: uncompressed}}\n"
        )

    before.run("longshore build -- --network=host")
    assert _layers(before) - _layers(before, "base:1") <= _cached(before)
    second = after.run("longshore build -- --network=host")
    assert read_steps("BuildKit", second).ran == ()
    assert after.run("docker run --rm --network=none shop-web") == "built\n"
    given = after.run("longshore build -- --network=host --output type=local,dest=out; ls out")
    assert "built\n" in given


def _layers(here: Machine, image: str = "shop-web") -> set[str]:
    """List the layers of an image as the engine keeps them."""
    here.run(f"docker save {image} -o image.tar; mkdir -p image; tar -C image -xf image.tar")
    manifest = json.loads((here.folder / "image" / "manifest.json").read_text())
    shutil.rmtree(here.folder / "image")
    return {layer.rpartition("/")[2] for layer in manifest[0]["Layers"]}


def _cached(here: Machine) -> set[str]:
    return {file.name for file in (here.folder / ".cache/web/blobs/sha256").iterdir()}


def _blobs(here: Machine) -> set[str]:
    """List the layers among the blobs of the cache directory."""
    folder = here.folder / ".cache/web/blobs/sha256"
    return {file.name for file in folder.iterdir() if not file.read_bytes().startswith(b"{")}


def test_builder_with_another_driver_is_noticed(machine: NextMachine) -> None:
    here = machine()
    here.run(BUILD + FLAGS)
    here.run("docker buildx create --name remote --driver docker-container --use")

    assert "--cache-from shop-web:latest " in here.run("longshore cache-from web")
    here.variables["BUILDX_BUILDER"] = "remote"
    assert "--cache-to type=local,dest=.cache/web," in here.run("longshore cache-from web")
    del here.variables["BUILDX_BUILDER"]
    bake = here.run("longshore cache-from web --format bake")
    assert "shop-web:latest" not in bake


def test_image_that_no_build_looks_at_is_loaded_unless_a_build_is_sure_to_follow(
    machine: NextMachine,
) -> None:
    before, after = two(machine, "containerd")
    before.run("longshore build")

    def imported(flags: str, builder: Builder = "BuildKit") -> bool:
        after.builder = builder
        after.run(f"longshore import {flags}")
        there = after.run("docker images --quiet shop-web") != ""
        after.run("docker rmi --force shop-web; rm -rf .cache")
        return there

    assert not imported("--for-build .")
    assert imported("")
    assert imported("--for-build . --whole")
    assert imported("--for-build .", "classic")
    (cached,) = after.store.rglob("entries/web*cache")
    shutil.rmtree(cached)
    assert imported("--for-build .")


def test_import_of_what_can_hit_and_its_flags_make_the_unchanged_steps_hit(
    machine: NextMachine,
) -> None:
    compose = (
        COMPOSE.split("    x-longshore")[0]
        + "    x-longshore: {cached: true}\n  other:\n    build: elsewhere\n    image: other\n"
    )
    dockerfile = "FROM base:1\nRUN echo a > /a\nCOPY lock /lock\nRUN cp /lock /b\n"
    before, after = machine("graphdriver", "classic"), machine("graphdriver", "classic")
    for here in (before, after):
        here.write("compose.yaml", compose)
        here.write("Dockerfile", dockerfile)
    before.run(BUILD + ".; longshore export")
    after.write("lock", "changed")

    said = after.run("longshore import")
    assert "lock has changed, so 2 of 3 steps are not loaded" in said
    assert "--cache-from shop-web:longshore-partial-latest" in said
    assert "shop-web:latest" not in after.run("docker images --format '{{.Repository}}:{{.Tag}}'")
    warm = after.steps(BUILD + FLAGS)
    assert (len(warm.cached), len(warm.ran)) == (1, 2)
    exported = json.loads(after.run("longshore export --json 2>/dev/null"))
    tags = [tag for image in exported["services"][0]["images"] for tag in image["tags"]]
    assert sorted(tags) == ["base:1", "shop-web:latest"]

    for flags in ("--whole", "--services compose.yaml --for-build elsewhere"):
        # What was built here is there already, and an image of another folder cannot be compared.
        assert "not loaded" not in after.run(f"longshore import {flags}")


# The steps and how many blobs come for them: the base image and what is behind the steps that hit.
CHAIN = """
FROM base:1
COPY lock /lock
RUN head -c 300000 /dev/urandom > /deps
COPY code /code
RUN head -c 300000 /dev/urandom > /built
"""
FETCHED = re.compile(r"web: the build fetched (\d+) of (\d+) blobs? of its BuildKit cache")


def chain(here: Machine) -> Machine:
    here.write("Dockerfile", CHAIN)
    here.write("code", "code")
    return here


@pytest.mark.parametrize(
    ("generation", "kind"), [("26.1", "codeship"), ("28.5", "codeship"), ("28.5", "compose")]
)
def test_longshore_build_fetches_of_a_cache_what_the_build_wants(
    machine: NextMachine, generation: Generation, kind: str
) -> None:
    machines = [chain(machine("containerd", generation=generation)) for _ in range(3)]
    build = "longshore build"
    if kind == "codeship":
        build += " -- --network=host"
        for here in machines:
            here.use_codeship(
                "web: {cached: true, build: {image: shop-web}, x-longshore: {image: false,"
                " buildkit_cache: .cache/web, image_compression: uncompressed}}\n"
            )
    before, after, changed = machines
    before.run(build)
    changed.write("code", "other")

    said = after.run(build)
    assert read_steps("BuildKit", said).ran == ()
    assert FETCHED.findall(said) == [("5", "5")]
    assert "0 of 5 blobs new" in said
    assert _blobs(after) == _blobs(before)

    said = changed.run(build)
    assert len(read_steps("BuildKit", said).ran) == 2
    assert FETCHED.findall(said) == [("3", "5")]
    assert "2 of 5 blobs new" in said


@pytest.mark.parametrize("generation", ["26.1", "28.5"])
def test_cache_that_turns_out_damaged_while_it_is_fetched_does_not_fail_the_build(
    machine: NextMachine, generation: Generation
) -> None:
    before, after = (chain(machine("containerd", generation=generation)) for _ in range(2))
    for here in (before, after):
        here.use_codeship(
            "web: {cached: true, build: {image: shop-web},"
            " x-longshore: {image: false, buildkit_cache: .cache/web}}\n"
        )
    before.run("longshore build -- --network=host")
    (pack,) = (file for file in before.store.rglob("packs/*") if file.stat().st_size > 600_000)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)

    said = after.run("longshore build -- --network=host")
    assert f"its BuildKit cache could not be read: {pack.as_uri()}" in said
    assert said.index("the build is repeated without the cache") < said.index(
        "exported 1 BuildKit cache"
    )
    assert after.run("docker run --rm --network=none shop-web cat /code") == "code"
