"""On real engines: what a prefix import leaves out is nothing that the next build could hit."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from tests.engine_fixtures import FreshEngine
from tests.support.cache import Notes, export, import_, service
from tests.support.engines import Generation, ImageStore, ThrowawayEngine
from tests.support.images import build, import_busybox, transfer

from longshore.core.service import Service
from longshore.ops.imported import ImportResult
from longshore.ops.prefixing import BuildContext
from longshore.store.directory import DirectoryStore

DOCKERFILE = """
FROM base:1
WORKDIR /app
COPY package*.json ./
RUN cp package.json installed && head -c 2000000 /dev/urandom > modules
COPY . .
RUN echo built > done
CMD ["sh"]
"""
FILES = {
    "package.json": b'{"a": 1}',
    "package-lock.json": b"lock",
    "src/main.js": b"main" * 1000,
    "src/other.js": b"other",
}
OWN = "shop-web:latest"
PARTIAL = "shop-web:longshore-partial-latest"
WEB = service("web", OWN)
EVERY_CLASSIC_BUILDER: list[tuple[Generation, ImageStore]] = [
    ("20.10", "graphdriver"),
    ("28.5", "graphdriver"),
    ("28.5", "containerd"),
]


def write(folder: Path, dockerfile: str, files: dict[str, bytes]) -> Path:
    """Write a checkout."""
    for name, content in {"Dockerfile": dockerfile.encode(), **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def built(engine: ThrowawayEngine, folder: Path, tag: str, names: tuple[str, ...] = ()) -> int:
    """Build a checkout with the classic builder; return how many steps it took from the cache."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "Dockerfile"
    }
    dockerfile = (folder / "Dockerfile").read_text()
    done = build(engine.api, dockerfile, files, tag=tag, cache_from=names)
    return done.steps_cached


async def load(
    engine: ThrowawayEngine, store: DirectoryStore, folder: Path | None, web: Service = WEB
) -> tuple[ImportResult, Notes]:
    """Import for a build of a checkout, or whole."""
    contexts = {} if folder is None else {"web": BuildContext(folder, folder / "Dockerfile")}
    notes = Notes()
    result = await import_(engine.host, store, [web], notes=notes, contexts=contexts)
    return result, notes


def names_of(result: ImportResult) -> tuple[str, ...]:
    handover = result.services[0].handover
    return () if handover is None else handover.cache_from


def forget(engine: ThrowawayEngine, base: str) -> None:
    """Remove every image but the base image."""
    kept = engine.api.images.get(base).id
    for _ in range(2):
        for image in engine.api.images.list(all=True):
            if image.id != kept:
                for tag in image.tags or [str(image.id)]:
                    try:
                        engine.api.images.remove(tag, force=True)
                    except Exception:
                        continue


@pytest.mark.parametrize(("generation", "store"), EVERY_CLASSIC_BUILDER)
async def test_a_changed_dependency_is_hit_as_after_a_full_import_with_fewer_bytes(
    generation: Generation, store: ImageStore, fresh_engine: FreshEngine, tmp_path: Path
) -> None:
    before, after = fresh_engine(generation), fresh_engine(generation, store)
    directory = DirectoryStore(tmp_path / "store")
    import_busybox(before.api, "base:1")
    folder = write(tmp_path / "checkout", DOCKERFILE, FILES)
    built(before, folder, OWN)
    await export(before.host, directory, [WEB])
    transfer(before.api, after.api, "base:1")
    (folder / "package.json").write_bytes(b'{"a": 2}')

    whole, _ = await load(after, directory, None)
    hits = built(after, folder, "probe:1", names_of(whole))
    forget(after, "base:1")
    cut, notes = await load(after, directory, folder)
    done = cut.services[0]
    assert (done.outcome, done.left and done.left.left_out) == ("hit", 5), notes.lines
    assert done.left is not None
    assert (done.left.steps, done.left.reason) == (6, "package.json has changed")
    assert built(after, folder, "probe:2", names_of(cut)) == hits
    assert cut.downloaded_bytes < whole.downloaded_bytes - 2_000_000
    assert OWN not in {tag for image in after.api.images.list() for tag in image.tags}


async def test_of_services_on_one_base_image_each_is_cut(
    fresh_engine: FreshEngine, tmp_path: Path
) -> None:
    before, after = fresh_engine(), fresh_engine()
    directory = DirectoryStore(tmp_path / "store")
    import_busybox(before.api, "base:1")
    services = [service(name, f"shop-{name}:latest") for name in ("web", "job")]
    contexts: dict[str, BuildContext] = {}
    for one in services:
        folder = write(tmp_path / one.name, DOCKERFILE, {**FILES, "name": one.name.encode()})
        built(before, folder, f"shop-{one.name}:latest")
        (folder / "package.json").write_bytes(b'{"a": 2}')
        contexts[one.name] = BuildContext(folder, folder / "Dockerfile")
    await export(before.host, directory, services)
    transfer(before.api, after.api, "base:1")
    notes = Notes()

    result = await import_(after.host, directory, services, notes=notes, contexts=contexts)

    left = [done.left and done.left.reason for done in result.services]
    assert left == ["package.json has changed"] * 2, notes.lines
    assert after.api.images.get("base:1").id == before.api.images.get("base:1").id


INSTRUCTIONS = (
    "ENV A={n}",
    "ENV B=x C={n}",
    "ARG WHO={n}",
    'LABEL kind="a b" n={n}',
    "WORKDIR /w{n}",
    "WORKDIR sub{n}",
    "COPY a.txt /copied{n}",
    "COPY a.txt b.txt /both{n}/",
    "COPY --chown=1:1 b.txt ./",
    "COPY *.txt ./globbed{n}/",
    'COPY ["dir", "/from json"]',
    "COPY dir /dir{n}",
    "COPY dir/inner/../inner ./inner",
    "COPY . /all",
    "ADD dir ./added{n}/",
    "ADD a.txt /",
    "COPY --from=other /made /from-other{n}",
    "RUN echo {n}   two \\\n   # why\n  && echo $WHO > /r{n}",
    'RUN ["/bin/sh", "-c", "echo {n} > /exec"]',
    "USER root",
    "EXPOSE 80 {n}",
    "VOLUME /v{n}",
    'SHELL ["/bin/sh", "-e", "-c"]',
    "CMD echo {n}",
)
CHANGES = 14


def random_lines(rng: random.Random) -> list[str]:
    chosen = rng.choices(INSTRUCTIONS, k=rng.randint(3, 7))
    return [line.replace("{n}", str(rng.randint(1, 9))) for line in chosen]


def change(rng: random.Random, folder: Path, lines: list[str]) -> list[str]:
    """Change a checkout and the lines of its Dockerfile at random, or neither."""
    lines = list(lines)
    match rng.randint(1, CHANGES):
        case 1:
            lines[rng.randrange(len(lines))] = random_lines(rng)[0]
        case 2:
            lines.insert(rng.randrange(len(lines) + 1), random_lines(rng)[0])
        case 3:
            lines.pop(rng.randrange(len(lines)))
        case 4:
            (folder / "a.txt").write_text("other")
        case 5:
            (folder / "b.txt").write_text("bb")
        case 6:
            (folder / "dir/inner/deep").write_text("other")
        case 7:
            (folder / "dir/new").write_text("new")
        case 8:
            (folder / "c.txt").write_text("new")
        case 9:
            (folder / "dir/one").unlink()
        case 10:
            lines = [line.replace("echo", "echo  ") for line in lines]
        case 11:
            (folder / "a.txt").rename(folder / "b.txt")
            (folder / "a.txt").write_text("a")
        case 12:
            lines = [line.lower() if line.startswith("ENV") else line for line in lines]
        case 13:
            (folder / "big").write_bytes(bytes(1_500_000) + b"2")
    return lines


@pytest.mark.parametrize("generation", ["20.10", "28.5"])
async def test_random_builds_hit_the_same_steps_after_a_prefix_import_as_after_a_full_one(
    generation: Generation, fresh_engine: FreshEngine, tmp_path: Path
) -> None:
    rounds = int(os.environ.get("PREFIX_ROUNDS", "2"))
    engine = fresh_engine(generation, in_memory=True)
    import_busybox(engine.api, "base:1")
    left_out = 0
    for number in range(rounds):
        seed = int(os.environ.get("PREFIX_SEED", "0")) + number
        rng = random.Random(seed)
        directory = DirectoryStore(tmp_path / f"store{number}")
        folder = tmp_path / f"checkout{number}"
        lines = random_lines(rng)
        files = {
            "a.txt": b"a",
            "b.txt": b"b",
            "dir/one": b"1",
            "dir/inner/deep": b"d" * 70_000,
            "big": bytes(1_500_000) + b"1",
        }
        head = ["FROM base:1 AS other", "RUN echo made > /made", "FROM base:1"]
        write(folder, "\n".join([*head, *lines]), files)
        built(engine, folder, OWN)
        await export(engine.host, directory, [WEB])
        lines = change(rng, folder, lines)
        (folder / "Dockerfile").write_text("\n".join([*head, *lines]))

        forget(engine, "base:1")
        whole, _ = await load(engine, directory, None)
        names = names_of(whole) if rng.random() < 0.5 else ()
        expected = built(engine, folder, "probe:1", names)
        forget(engine, "base:1")
        cut, notes = await load(engine, directory, folder)
        left = cut.services[0].left
        left_out += left.left_out if left else 0
        found = built(engine, folder, "probe:2", names_of(cut) if names else ())
        forget(engine, "base:1")
        assert found == expected, (seed, lines, left, notes.lines)
    assert left_out or rounds < 3
