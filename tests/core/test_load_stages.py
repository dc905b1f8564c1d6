"""An entry that is sent in several archives arrives whole, and nothing of it is sent twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.test_load_plan import (
    ARCHIVE,
    BASE,
    ENTRIES,
    MIDDLE,
    OTHER,
    TOP,
    both_forms,
    entry_of,
    present_in,
)

from longshore.core.digests import Digest, digest_of
from longshore.core.entry import Entry
from longshore.core.load_plan import LoadForm, plan_load
from longshore.core.load_stages import LEAST_BYTES, plan_stages

SIZES = st.integers(0, 4 * LEAST_BYTES)


def sized(entry: Entry, sizes: Sequence[int]) -> dict[Digest, int]:
    """Give the blobs of an entry sizes, in their order."""
    return {Digest(blob.digest): size for blob, size in zip(entry.blobs, sizes, strict=False)}


def height_of(documents: dict[Digest, bytes], image: Digest) -> int:
    """Tell how many layers a bare image has: of a manifest, or of a config."""
    document = json.loads(documents[image])
    return len(document.get("layers") or document["rootfs"]["diff_ids"])


@both_forms
@given(ENTRIES, st.lists(SIZES, min_size=8, max_size=8), st.data())
def test_every_archive_brings_what_its_images_lack_by_then(
    form: LoadForm, entry: Entry, sizes: list[int], data: Any
) -> None:
    held = form.held(present_in(form, [entry], data), [entry])
    stages = plan_stages(form, entry, held, sized(entry, sizes))

    tallest = max(form.images(entry), key=lambda image: len(image.layers))
    ids = form.stack_ids(tallest)
    have, heights = set(held), [0]
    for load in stages.loads[:-1]:
        documents = {digest_of(text): text for _, text in load.files}
        (bare,) = documents.keys() & set(stages.images)
        heights.append(height_of(documents, bare))
        for stack, layer in zip(ids[: heights[-1]], tallest.layers, strict=False):
            assert stack in have or layer in load.blobs
        assert len(set(load.blobs)) == len(load.blobs)
        have.update(ids[: heights[-1]])
    assert heights == sorted(set(heights))
    assert stages.loads[-1] == plan_load(form, entry, have)
    assert len(stages.images) == len(set(stages.images)) == len(stages.loads) - 1


@both_forms
@given(ENTRIES, st.lists(SIZES, min_size=8, max_size=8))
def test_a_layer_is_sent_twice_only_if_it_stands_in_two_places(
    form: LoadForm, entry: Entry, sizes: list[int]
) -> None:
    stages = plan_stages(form, entry, (), sized(entry, sizes))

    sent = [blob for load in stages.loads for blob in load.blobs]
    stacks = {
        (stack, layer)
        for image in form.images(entry)
        for stack, layer in zip(form.stack_ids(image), image.layers, strict=True)
    }
    assert len(sent) <= len(stacks)
    assert set(sent) == set(plan_load(form, entry, ()).blobs)


def loads_of(sizes: Sequence[int]) -> list[int]:
    """Tell how many layers each archive has, for an image whose layers have these sizes."""
    layers = [f"layer {number}".encode() for number in range(len(sizes))]
    entry = entry_of(layers)
    return [len(load.blobs) for load in plan_stages(ARCHIVE, entry, (), sized(entry, sizes)).loads]


def test_small_images_are_sent_in_one_archive() -> None:
    assert loads_of([1 << 20] * 10) == [10]


@pytest.mark.parametrize(
    ("megabytes", "archives"),
    [
        ([600, 500, 1], [1, 2]),  # the last layer alone is not worth an archive
        ([1, 2, 600, 500], [3, 1]),  # nor are the first ones
        ([80, 100, 300, 400, 10, 10], [1, 2, 3]),
        ([1000], [1]),
        ([0, 0, 1000, 0], [4]),
    ],
)
def test_archives_end_where_the_engine_gets_enough_to_do(
    megabytes: list[int], archives: list[int]
) -> None:
    assert loads_of([size << 20 for size in megabytes]) == archives


def test_what_the_engine_has_counts_for_nothing() -> None:
    entry = entry_of([BASE, MIDDLE, TOP, OTHER])
    sizes = sized(entry, [900 << 20, 50 << 20, 50 << 20, 50 << 20])
    held = set(ARCHIVE.stack_ids(entry.images[0])[:1])

    stages = plan_stages(ARCHIVE, entry, held, sizes)

    assert [len(load.blobs) for load in stages.loads] == [1, 2]
