"""The worst that a scope can hold costs an import no more memory than `--memory` says."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support import hostile
from tests.support.hostile import Pack, fake_digest

from longshore.core import codec
from longshore.core.digests import digest_of
from longshore.core.documents import MAX_DOCUMENT_BYTES, MAX_VALUES
from longshore.core.entry_checks import MAX_BLOBS, MAX_IMAGES
from longshore.core.images import MAX_STEPS
from longshore.core.recipe import MAX_CHUNKS
from longshore.store.directory import DirectoryStore

ROOT = Path(__file__).parent.parent.parent
SERVICES = [f"service{number}" for number in range(3)]
MIB = 1 << 20


def measure(store: DirectoryStore, services: Sequence[str], image_store: str) -> dict[str, Any]:
    """Import in a process of its own, and return what it says."""
    folder = store.url().removeprefix("file://")
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.measured_import", folder, image_store, *services],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout)
    said["warnings"] = sorted({re.sub(r"\S*/store/\S+", "URL", w) for w in said["warnings"]})
    return said


def assert_within_budget(said: Mapping[str, Any]) -> None:
    assert said["peak_bytes"] <= said["budget_bytes"], {
        name: f"{value / MIB:.0f} MiB" if name.endswith("_bytes") else value
        for name, value in said.items()
    }


def assert_missed(said: Mapping[str, Any], reason: str) -> None:
    assert set(said["outcomes"]) == {"miss"}, said
    assert all(reason in warning for warning in said["warnings"]), said


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def crowded(value: str) -> bytes:
    """Write as many values as a document may have into a field that is parsed."""
    values = ",".join([value] * (MAX_VALUES - 10))
    return codec.compress(f'{{"format":1,"requires":[{values}],"refs":[]}}'.encode(), 1)


@pytest.mark.parametrize("value", ['""', '"a"', '"é"'])
async def test_documents_with_as_many_values_as_are_allowed(
    store: DirectoryStore, value: str
) -> None:
    for service in SERVICES:
        await hostile.put_bytes(store, hostile.sealed(crowded(value)), service=service)

    said = measure(store, SERVICES, "graphdriver")

    assert_missed(said, "newer longshore")
    assert_within_budget(said)


async def test_documents_with_one_text_that_fills_them(store: DirectoryStore) -> None:
    # One character outside of the basic plane, and Python takes four bytes for each of the others.
    text = "a" * (MAX_DOCUMENT_BYTES - 2000) + "\N{GRINNING FACE}"
    for service in SERVICES:
        document = hostile.entry({fake_digest(1): 1}, service=service, agent=text)
        payload = codec.compress(json.dumps(document, ensure_ascii=False).encode(), 1)
        await hostile.put_bytes(store, hostile.sealed(payload), service=service)

    said = measure(store, SERVICES, "graphdriver")

    assert_missed(said, "is not in the store")  # it is read, and then its recipe is missing
    assert_within_budget(said)


@pytest.mark.parametrize("image_store", ["graphdriver", "containerd"])
async def test_valid_entries_as_large_as_they_can_be(
    store: DirectoryStore, image_store: str
) -> None:
    rng = random.Random(1)
    layers = [fake_digest(number) for number in range(200)]
    configs = [
        hostile.config(layers, note=base64.b64encode(rng.randbytes(60_000)).decode(), number=n)
        for n in range(60)
    ]
    for service in SERVICES:
        document = hostile.entry(dict.fromkeys(layers, 1 << 20), service=service)
        document["documents"] += [hostile.document(data) for data in configs]
        top = document["images"][0]
        document["images"] += [
            {**top, "id": digest_of(data), "config": digest_of(data), "tags": []}
            for data in configs
        ]
        assert len(json.dumps(document)) < MAX_DOCUMENT_BYTES
        await hostile.put_entry(store, document)

    said = measure(store, SERVICES, image_store)

    assert_missed(said, "is not in the store")
    assert_within_budget(said)


async def test_images_that_share_a_config_with_the_longest_history(store: DirectoryStore) -> None:
    steps = [{"created_by": "x" * 1000, "empty_layer": True}] * MAX_STEPS
    shared = json.dumps({"history": steps, "rootfs": {"diff_ids": []}}).encode()
    for service in SERVICES:
        document = hostile.entry({}, service=service)
        document["documents"] = [hostile.document(shared)]
        image: dict[str, Any] = {"config": digest_of(shared), "tags": [], "parent": None}
        document["images"] = [
            {**image, "id": fake_digest(number), "diff_ids": [], "layers": []}
            for number in range(MAX_IMAGES)
        ]
        await hostile.put_entry(store, document)

    said = measure(store, SERVICES, "containerd")

    assert said["outcomes"] == ["failed"] * len(SERVICES)  # the engine keeps nothing
    assert said["loaded_bytes"] > MIB
    assert_within_budget(said)


def scattered(digest: str, packs: Sequence[Pack], chunks: int) -> dict[str, Any]:
    """Describe a recipe each of whose chunks needs a request of its own."""
    rng = random.Random(digest)
    rows = [
        {
            "pack": number % len(packs),
            "offset": 1000 * (number % 60_000),
            "stored": 500,
            "plain": 1,
            "blake3": rng.randbytes(32),
        }
        for number in range(chunks)
    ]
    return hostile.recipe(digest, packs, rows)


@pytest.mark.parametrize("chunks", [MAX_CHUNKS, 5000, 200])
async def test_recipes_of_as_many_chunks_as_are_allowed(store: DirectoryStore, chunks: int) -> None:
    packs = [Pack(1), Pack(2)]
    layers = {
        fake_digest(number): chunks for number in range(min(MAX_BLOBS, max(6, 200_000 // chunks)))
    }
    for service in SERVICES[:2]:
        await hostile.put_entry(store, hostile.entry(layers, service=service))
    for digest in layers:
        await hostile.put_recipe(store, scattered(digest, packs, chunks))

    said = measure(store, SERVICES[:2], "graphdriver")

    assert_missed(said, "raise --memory")
    assert_within_budget(said)


async def test_large_chunks_for_which_every_range_is_read(store: DirectoryStore) -> None:
    rng = random.Random(2)
    packs = [Pack(number) for number in range(4)]
    plain = rng.randbytes(1 << 20)
    rows = []
    for number, pack in enumerate(packs):
        rows += [{**pack.add(plain), "pack": number} for _ in range(40)]
    for pack in packs:
        await store.put(pack.key, bytes(pack.data))
    rng.shuffle(rows)
    for number, service in enumerate(SERVICES):
        digest = fake_digest(number)
        headers = rows[: len(rows) // 2]
        document = hostile.recipe(digest, packs, headers, rows)
        await hostile.put_recipe(store, document)
        await hostile.put_entry(store, hostile.entry({digest: document["size"]}, service=service))

    said = measure(store, SERVICES, "graphdriver")

    assert_missed(said, "do not fit together")
    assert said["downloaded_bytes"] > 100 * MIB
    assert_within_budget(said)
