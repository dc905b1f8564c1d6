"""Only what the scopes lack is asked of the engine; what is written down is what it said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.tars import config_json

from longshore.core.digests import Digest, digest_of
from longshore.core.entry import Blob
from longshore.core.export_plan import EntryContents, SavePlan, describe_images, plan_save
from longshore.core.images import CONFIG, LAYER
from longshore.core.keys import Ref
from longshore.errors import EngineError

BASE, MIDDLE, TOP = b"base", b"middle", b"top"


@dataclass(frozen=True)
class Held:
    """An image as an engine holds it."""

    id: Digest
    diff_ids: Sequence[Digest]
    tags: Sequence[str] = ()
    parent: Digest | None = None
    config: bytes = field(default=b"", repr=False)


def held(layers: Sequence[bytes], tags: Sequence[str] = (), parent: Digest | None = None) -> Held:
    config = config_json(layers)
    return Held(digest_of(config), tuple(map(digest_of, layers)), tags, parent, config)


BASE_IMAGE = held([BASE])
MIDDLE_IMAGE = held([BASE, MIDDLE], parent=BASE_IMAGE.id)
TOP_IMAGE = held([BASE, MIDDLE, TOP], ["app:1", "app:2"], MIDDLE_IMAGE.id)
CHAIN = [TOP_IMAGE, MIDDLE_IMAGE, BASE_IMAGE]
IDS = frozenset(image.id for image in CHAIN)
NONE: frozenset[Digest] = frozenset()


def ref(layer: bytes) -> Ref:
    return Ref("main", f"{digest_of(layer)[7:]}.019424f8-632e-7001-8203-040506070809")


def test_of_an_empty_cache_everything_is_saved() -> None:
    assert plan_save(CHAIN, NONE, NONE) == SavePlan(
        images=(TOP_IMAGE.id, MIDDLE_IMAGE.id, BASE_IMAGE.id),
        blobs=frozenset(map(digest_of, (BASE, MIDDLE, TOP))),
        documents=IDS,
    )


def test_what_is_all_there_is_not_asked_for() -> None:
    blobs = frozenset(map(digest_of, (BASE, MIDDLE, TOP)))

    assert plan_save(CHAIN, blobs, IDS) == SavePlan((), NONE, NONE)


def test_an_image_whose_layers_and_config_are_there_is_not_named() -> None:
    plan = plan_save(CHAIN, frozenset(map(digest_of, (BASE, MIDDLE))), IDS - {TOP_IMAGE.id})

    assert plan == SavePlan((TOP_IMAGE.id,), frozenset([digest_of(TOP)]), frozenset([TOP_IMAGE.id]))


def test_an_image_that_lacks_only_its_config_is_named() -> None:
    blobs = frozenset(map(digest_of, (BASE, MIDDLE, TOP)))

    plan = plan_save(CHAIN, blobs, IDS - {MIDDLE_IMAGE.id})

    assert plan == SavePlan((MIDDLE_IMAGE.id,), NONE, frozenset([MIDDLE_IMAGE.id]))


def test_an_image_that_lacks_only_a_layer_is_named() -> None:
    plan = plan_save([TOP_IMAGE], frozenset(map(digest_of, (BASE, TOP))), IDS)

    assert plan == SavePlan((TOP_IMAGE.id,), frozenset([digest_of(MIDDLE)]), NONE)


def test_an_image_of_two_services_is_named_once() -> None:
    assert plan_save([BASE_IMAGE, BASE_IMAGE], NONE, NONE).images == (BASE_IMAGE.id,)


@given(
    st.sets(st.sampled_from([digest_of(layer) for layer in (BASE, MIDDLE, TOP)])),
    st.sets(st.sampled_from(sorted(IDS))),
)
def test_what_is_there_and_what_is_planned_make_the_whole(
    have_blobs: set[Digest], have_documents: set[Digest]
) -> None:
    plan = plan_save(CHAIN, have_blobs, have_documents)

    assert plan.documents | have_documents == IDS
    assert plan.documents.isdisjoint(have_documents)
    assert plan.blobs | have_blobs == {digest_of(layer) for layer in (BASE, MIDDLE, TOP)}
    assert plan.blobs.isdisjoint(have_blobs)


@given(st.sets(st.sampled_from([digest_of(layer) for layer in (BASE, MIDDLE, TOP)])))
def test_what_is_planned_lies_in_the_images_that_are_named(have_blobs: set[Digest]) -> None:
    plan = plan_save(CHAIN, have_blobs, NONE)

    named = {d for image in CHAIN if image.id in plan.images for d in image.diff_ids}
    assert plan.blobs <= named


def describe(chain: Sequence[Held]) -> EntryContents:
    return describe_images(
        chain,
        {image.id: image.config for image in CHAIN},
        {digest_of(layer): (ref(layer), len(layer)) for layer in (BASE, MIDDLE, TOP)},
    )


def test_images_are_written_down_in_their_order() -> None:
    images = describe(CHAIN).images

    assert [image.id for image in images] == [TOP_IMAGE.id, MIDDLE_IMAGE.id, BASE_IMAGE.id]


def test_an_image_is_written_down_as_the_engine_holds_it() -> None:
    image = describe(CHAIN).images[0]

    assert (image.config, image.tags, image.parent) == (
        TOP_IMAGE.id,
        ["app:1", "app:2"],
        MIDDLE_IMAGE.id,
    )
    assert image.diff_ids == image.layers == list(TOP_IMAGE.diff_ids)


def test_a_parent_that_is_not_in_the_entry_is_left_out() -> None:
    images = describe([TOP_IMAGE, BASE_IMAGE]).images

    assert [image.parent for image in images] == [None, None]


def test_a_layer_of_several_images_is_written_down_once() -> None:
    contents = describe(CHAIN)

    assert contents.blobs == tuple(
        Blob(digest_of(layer), len(layer), LAYER, number)
        for number, layer in enumerate((BASE, MIDDLE, TOP))
    )
    assert contents.refs == (ref(BASE), ref(MIDDLE), ref(TOP))


def test_the_configs_are_written_down_byte_for_byte() -> None:
    contents = describe(CHAIN)

    assert contents.documents == {image.id: image.config for image in CHAIN}
    assert contents.media_types == dict.fromkeys(IDS, CONFIG)


def test_only_what_the_images_need_is_written_down() -> None:
    contents = describe([BASE_IMAGE])

    assert (list(contents.documents), contents.refs) == ([BASE_IMAGE.id], (ref(BASE),))


def test_an_image_with_other_layers_than_its_config_is_refused() -> None:
    odd = Held(TOP_IMAGE.id, TOP_IMAGE.diff_ids[:2])

    with pytest.raises(EngineError, match=TOP_IMAGE.id):
        describe([odd])
