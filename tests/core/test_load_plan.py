"""What is sent and what the engine holds make each image whole, on both kinds of image store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.tars import config_json

from longshore.core.archive_form import ArchiveForm, require_readable
from longshore.core.digests import Digest, chain_ids, digest_of
from longshore.core.entry import Blob, EngineFacts, Entry, Image
from longshore.core.images import CONFIG, LAYER, parse_config
from longshore.core.keys import Ref
from longshore.core.layout import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from longshore.core.layout_form import NAME, LayoutForm
from longshore.core.load_plan import (
    Expected,
    LoadForm,
    LoadPlan,
    Stack,
    missing_images,
    plan_load,
    plan_shared,
)
from longshore.errors import CorruptData, NotCached

ARCHIVE, LAYOUT = ArchiveForm(), LayoutForm()
GZIP = OCI_LAYER + "+gzip"
IN_TOTO = "application/vnd.in-toto+json"
BASE, MIDDLE, TOP, OTHER = b"base", b"middle", b"top", b"other"
ID = "019424f8-632e-7001-8203-040506070809"
both_forms = pytest.mark.parametrize("form", [ARCHIVE, LAYOUT], ids=["archive", "layout"])


def encode(document: Any) -> bytes:
    return json.dumps(document).encode()


def described(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def gzipped(layer: bytes) -> bytes:
    return b"\x1f\x8b" + layer


class Making:
    """An entry in the making: images as one kind of store has them."""

    def __init__(self, *, containerd: bool = False) -> None:
        self.containerd = containerd
        self.documents: dict[Digest, bytes] = {}
        self.media_types: dict[Digest, str] = {}
        self.images: list[Image] = []
        self.blobs: dict[Digest, tuple[int, str]] = {}

    def add(
        self,
        layers: Sequence[bytes],
        *tags: str,
        parent: Digest | None = None,
        attestation: bytes | None = None,
    ) -> Digest:
        """Add an image. Returns its id. With an attestation it has an index."""
        config = config_json(layers)
        stored = [gzipped(layer) if self.containerd else layer for layer in layers]
        for blob in stored:
            self.blobs[digest_of(blob)] = (len(blob), GZIP if self.containerd else LAYER)
        identifier = self._document(OCI_CONFIG if self.containerd else CONFIG, config)
        if self.containerd:
            target = encode(
                {
                    "config": described(OCI_CONFIG, config),
                    "layers": [described(GZIP, layer) for layer in stored],
                }
            )
            identifier = self._document(OCI_MANIFEST, target)
            if attestation is not None:
                self.blobs[digest_of(attestation)] = (len(attestation), IN_TOTO)
                proof = encode({"layers": [described(IN_TOTO, attestation)]})
                self._document(OCI_MANIFEST, proof)
                both = [described(OCI_MANIFEST, one) for one in (target, proof)]
                identifier = self._document(OCI_INDEX, encode({"manifests": both}))
        self.images.append(
            Image(
                id=identifier,
                config=digest_of(config),
                tags=list(tags),
                parent=parent,
                diff_ids=list(map(digest_of, layers)),
                layers=list(map(digest_of, stored)),
            )
        )
        return identifier

    def _document(self, media_type: str, data: bytes) -> Digest:
        self.documents[digest_of(data)] = data
        self.media_types[digest_of(data)] = media_type
        return digest_of(data)

    def entry(self) -> Entry:
        refs = tuple(Ref("main", f"{blob[7:]}.{ID}") for blob in self.blobs)
        return Entry(
            kind="image",
            project="shop",
            scope="main",
            service="web",
            platform="linux-amd64",
            id=ID,
            basis=datetime(2026, 3, 1, tzinfo=UTC),
            agent="test",
            engine=EngineFacts("", "containerd" if self.containerd else "graphdriver"),
            documents=self.documents,
            media_types=self.media_types,
            images=tuple(self.images),
            blobs=tuple(
                Blob(digest, size, media_type, number)
                for number, (digest, (size, media_type)) in enumerate(self.blobs.items())
            ),
            refs=refs,
        )


def entry_of(*stacks: Sequence[bytes], containerd: bool = False) -> Entry:
    made = Making(containerd=containerd)
    for number, stack in enumerate(stacks):
        made.add(stack, f"app:{number}")
    return made.entry()


def files_of(plan: LoadPlan) -> dict[str, Any]:
    """Return the small members that are JSON, read."""
    return {name: json.loads(data) for name, data in plan.files}


# Any images, any engine

STACKS = st.lists(st.sampled_from([BASE, MIDDLE, TOP, OTHER]), min_size=1, max_size=4)
ENTRIES = st.builds(
    lambda stacks, containerd: entry_of(*stacks, containerd=containerd),
    st.lists(STACKS, min_size=1, max_size=3),
    st.booleans(),
)


def names_of(form: LoadForm, images: Sequence[Image]) -> dict[Digest, str]:
    """Tell what an engine looks a layer up by, for each stack that images have: it and its blob."""
    if isinstance(form, ArchiveForm):
        return {
            chain: layer
            for image in images
            for chain, layer in zip(
                chain_ids([Digest(d) for d in image.diff_ids]), image.layers, strict=True
            )
        }
    return {Digest(layer): layer for image in images for layer in image.layers}


def present_in(form: LoadForm, entries: Sequence[Entry], data: Any) -> dict[Digest, list[Digest]]:
    """Let an engine have some of the images of entries, and another one."""
    all_images = [
        (expected.id, [Digest(d) for d in image.diff_ids])
        for entry in entries
        for expected, image in zip(form.expected(entry), distinct(form, entry), strict=True)
    ]
    chosen = data.draw(st.lists(st.sampled_from(all_images)))
    return dict(chosen) | {digest_of(b"unknown"): [digest_of(BASE)]}


def distinct(form: LoadForm, entry: Entry) -> list[Image]:
    """List the images of an entry as the form tells them apart."""
    if isinstance(form, LayoutForm):
        return list(form.images(entry))
    return list({image.config: image for image in entry.images}.values())


@both_forms
@given(st.data())
def test_what_is_sent_and_what_is_there_make_every_image_whole(form: LoadForm, data: Any) -> None:
    entry, other = data.draw(ENTRIES), data.draw(ENTRIES)
    present = present_in(form, [entry, other], data)
    if isinstance(form, ArchiveForm):
        there = {chain for diff_ids in present.values() for chain in chain_ids(diff_ids)}
    else:
        there = {
            Digest(layer)
            for e in (entry, other)
            for expected, image in zip(form.expected(e), form.images(e), strict=True)
            if expected.id in present
            for layer in image.layers
        }

    plan = plan_load(form, entry, form.held(present, [entry, other]))

    for name, layer in names_of(form, form.images(entry)).items():
        assert name in there or layer in plan.blobs
    assert len(set(plan.blobs)) == len(plan.blobs)
    assert not set(plan.blobs) & set(plan.skipped)
    assert {blob.digest for blob in entry.blobs} == {*plan.blobs, *plan.skipped}


@both_forms
@given(ENTRIES)
def test_what_the_engine_has_all_of_is_not_sent(form: LoadForm, entry: Entry) -> None:
    diff_ids = [[Digest(d) for d in image.diff_ids] for image in distinct(form, entry)]
    ids = [expected.id for expected in form.expected(entry)]

    plan = plan_load(form, entry, form.held(dict(zip(ids, diff_ids, strict=True)), [entry]))

    assert plan.blobs == ()


@both_forms
@given(ENTRIES)
def test_an_engine_that_has_nothing_is_sent_every_blob(form: LoadForm, entry: Entry) -> None:
    plan = plan_load(form, entry, ())

    assert set(plan.blobs) == {blob.digest for blob in entry.blobs}
    assert plan.skipped == ()


@both_forms
@given(st.lists(ENTRIES, min_size=1, max_size=3), st.data())
def test_what_several_need_is_sent_once_and_before(
    form: LoadForm, entries: list[Entry], data: Any
) -> None:
    held = form.held(present_in(form, entries, data), entries)
    needed = [
        {stack for image in form.images(entry) for stack in form.stack_ids(image)} - held
        for entry in entries
    ]
    wanted = {s for stacks in needed for s in stacks if sum(s in other for other in needed) > 1}

    shared = plan_shared(form, {str(n): entry for n, entry in enumerate(entries)}, held)

    if shared is None:
        assert not wanted
        return
    assert shared.stacks == wanted
    assert len(set(shared.load.blobs)) == len(shared.load.blobs) <= len(wanted)
    # Nothing of it is sent again but a layer that stands elsewhere, too.
    for entry in entries:
        places = [
            (stack, layer)
            for image in form.images(entry)
            for stack, layer in zip(form.stack_ids(image), image.layers, strict=True)
        ]
        plan = plan_load(form, entry, held | shared.stacks)
        assert set(plan.blobs) == {
            layer for stack, layer in places if stack not in held and stack not in wanted
        }


@both_forms
@given(st.lists(ENTRIES, min_size=2, max_size=3))
def test_a_load_of_shared_layers_holds_each_of_its_stacks_in_an_image(
    form: LoadForm, entries: list[Entry]
) -> None:
    shared = plan_shared(form, {str(n): entry for n, entry in enumerate(entries)}, ())
    if shared is None:
        return
    documents = {digest_of(data): data for _, data in shared.load.files}
    found: set[Digest] = set()
    for identifier in shared.images:
        config, layers = documents[identifier], None
        if form is LAYOUT:
            manifest = json.loads(config)
            layers = [layer["digest"] for layer in manifest["layers"]]
            config = documents[manifest["config"]["digest"]]
        diff_ids = list(parse_config(config).diff_ids)
        found.update(chain_ids([Digest(d) for d in (layers or diff_ids)]))
    assert found == shared.stacks
    assert len(set(shared.images)) == len(shared.images)


# Shared layers


@both_forms
def test_of_stacks_on_each_other_only_the_longest_gets_an_image(form: LoadForm) -> None:
    entries = {"a": entry_of([BASE, MIDDLE, TOP]), "b": entry_of([BASE], [BASE, MIDDLE, OTHER])}

    shared = plan_shared(form, entries, ())

    assert shared is not None
    assert shared.load.blobs == (digest_of(BASE), digest_of(MIDDLE))
    assert len(shared.images) == 1


@both_forms
def test_what_the_engine_has_below_a_shared_layer_is_not_sent(form: LoadForm) -> None:
    entries = {"a": entry_of([BASE, MIDDLE, TOP]), "b": entry_of([BASE, MIDDLE, OTHER])}

    shared = plan_shared(form, entries, {digest_of(BASE)})

    assert shared is not None
    assert shared.load.blobs == (digest_of(MIDDLE),)


@both_forms
def test_nothing_is_shared_by_one_service_or_if_the_engine_has_it(form: LoadForm) -> None:
    one = entry_of([BASE], [BASE, TOP])

    assert plan_shared(form, {"a": one}, ()) is None
    assert plan_shared(form, {"a": one, "b": entry_of([BASE, OTHER])}, {digest_of(BASE)}) is None


def test_a_layer_that_two_services_keep_in_two_forms_is_sent_once() -> None:
    """One was exported from a containerd store, the other from a graphdriver store."""
    entries = {"a": entry_of([BASE, TOP], containerd=True), "b": entry_of([BASE, OTHER])}

    shared = plan_shared(ARCHIVE, entries, ())

    assert shared is not None
    assert len(shared.load.blobs) == len(shared.images) == 1


def test_a_base_below_layers_in_two_forms_is_sent_once() -> None:
    plain, packed = entry_of([BASE, MIDDLE], [BASE, TOP]), entry_of([BASE, TOP], containerd=True)
    entries = {"a": entry_of([BASE, MIDDLE], containerd=True), "b": plain, "c": packed}

    shared = plan_shared(ARCHIVE, entries, ())

    assert shared is not None
    assert len(shared.load.blobs) == 3


def test_layers_in_two_forms_are_two_blobs_to_a_containerd_store() -> None:
    entries = {"a": entry_of([BASE], containerd=True), "b": entry_of([BASE])}

    assert plan_shared(LAYOUT, entries, ()) is None


def test_entries_that_lie_about_a_shared_layer_have_it_sent_all_the_same() -> None:
    honest, lying = entry_of([BASE, TOP]), entry_of([BASE, OTHER])
    image = msgspec.structs.replace(
        lying.images[0], diff_ids=[digest_of(b"a lie"), digest_of(OTHER)]
    )
    lying = replace(lying, images=(image,))

    shared = plan_shared(LAYOUT, {"a": honest, "b": lying}, ())

    assert shared is not None
    assert shared.load.blobs == (digest_of(BASE),)


def test_a_bare_config_names_its_platform_and_layers() -> None:
    files, (identifier,) = ARCHIVE.describe_bare(
        [Stack((digest_of(BASE),), (digest_of(BASE),))], [entry_of([BASE])]
    )

    assert json.loads(files[f"blobs/sha256/{identifier[7:]}"]) == {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(BASE)]},
        "history": [],
    }


# Archives with a manifest.json, for graphdriver stores


def chain_of_three(*, containerd: bool) -> tuple[Entry, list[Digest]]:
    made = Making(containerd=containerd)
    base = made.add([BASE])
    middle = made.add([BASE, MIDDLE], parent=base)
    top = made.add([BASE, MIDDLE, TOP], "web:1", "web:2", parent=middle)
    return made.entry(), [base, middle, top]


def test_images_of_a_containerd_store_are_named_by_their_configs() -> None:
    entry, _ = chain_of_three(containerd=True)
    base, middle, top = (Digest(image.config) for image in entry.images)

    assert ARCHIVE.expected(entry) == (
        Expected(base, (), None),
        Expected(middle, (), base),
        Expected(top, ("web:1", "web:2"), middle),
    )


def test_images_of_a_graphdriver_store_keep_their_ids() -> None:
    entry, (base, middle, top) = chain_of_three(containerd=False)

    assert [(image.id, image.parent) for image in ARCHIVE.expected(entry)] == [
        (base, None),
        (middle, base),
        (top, middle),
    ]


@pytest.mark.parametrize("containerd", [False, True])
def test_manifest_json_names_configs_tags_parents_and_the_blobs_as_they_are_kept(
    containerd: bool,
) -> None:
    entry, _ = chain_of_three(containerd=containerd)
    files = files_of(plan_load(ARCHIVE, entry, ()))

    assert files.pop("manifest.json") == [
        {
            "Config": f"blobs/sha256/{image.config[7:]}",
            "RepoTags": image.tags or None,
            "Layers": [f"blobs/sha256/{layer[7:]}" for layer in image.layers],
        }
        | ({"Parent": parent.config} if parent else {})
        for image, parent in zip(entry.images, [None, *entry.images], strict=False)
    ]
    assert files.keys() == {f"blobs/sha256/{image.config[7:]}" for image in entry.images}


def test_two_images_with_one_config_become_one_with_the_tags_of_both() -> None:
    made = Making(containerd=True)
    base = made.add([BASE])
    made.add([BASE, TOP], "web:1", "web:2", attestation=b"{1}", parent=base)
    made.add([BASE, TOP], "web:2", "web:3", attestation=b"{2}")
    config = digest_of(config_json([BASE, TOP]))

    _, image = ARCHIVE.expected(made.entry())

    assert image == Expected(config, ("web:1", "web:2", "web:3"), digest_of(config_json([BASE])))
    assert len(files_of(plan_load(ARCHIVE, made.entry(), ()))["manifest.json"]) == 2


def test_no_image_becomes_its_own_parent() -> None:
    made = Making(containerd=True)
    base = made.add([BASE])
    inner = made.add([BASE, TOP], attestation=b"{1}", parent=base)
    made.add([BASE, TOP], "web:1", parent=inner)
    entry = made.entry()

    for images in (entry.images, entry.images[::-1]):
        expected = ARCHIVE.expected(replace(entry, images=images))
        assert {image.parent for image in expected} == {None, digest_of(config_json([BASE]))}


def test_what_a_graphdriver_store_has_no_use_for_is_not_sent_to_it() -> None:
    made = Making(containerd=True)
    made.add([BASE], "web:1", attestation=bytes(300_000))

    assert plan_load(ARCHIVE, made.entry(), ()).blobs == (digest_of(gzipped(BASE)),)


@pytest.mark.parametrize("media_type", [GZIP, LAYER, OCI_LAYER])
@pytest.mark.parametrize("version", [None, (20, 10, 24), (28, 5, 2)])
def test_layers_that_every_engine_unpacks_are_readable(
    media_type: str, version: tuple[int, int, int] | None
) -> None:
    entry = entry_of([BASE])
    blob = msgspec.structs.replace(entry.blobs[0], media_type=media_type)

    require_readable(replace(entry, blobs=(blob,)), version)


@pytest.mark.parametrize("media_type", [OCI_LAYER + "+zstd", LAYER + ".zstd"])
def test_layers_of_zstd_are_readable_from_engine_23_on(media_type: str) -> None:
    entry = entry_of([BASE])
    blob = msgspec.structs.replace(entry.blobs[0], media_type=media_type)
    entry = replace(entry, blobs=(blob,))

    for version in (None, (23, 0, 0), (29, 0, 0)):
        require_readable(entry, version)
    for old in ((20, 10, 24), (22, 6, 99)):
        with pytest.raises(NotCached, match="zstd, which Docker"):
            require_readable(entry, old)


# OCI layouts, for containerd stores


def roots_of(plan: LoadPlan) -> list[Mapping[str, Any]]:
    files = files_of(plan)
    assert files["oci-layout"] == {"imageLayoutVersion": "1.0.0"}
    roots: list[Mapping[str, Any]] = files["index.json"]["manifests"]
    return roots


def test_an_image_of_a_containerd_store_keeps_its_id_and_every_document() -> None:
    made = Making(containerd=True)
    target = made.add([BASE, TOP], "web:1", attestation=bytes(300_000))
    entry = made.entry()

    plan = plan_load(LAYOUT, entry, ())

    assert LAYOUT.expected(entry) == (Expected(target, ("web:1",), None),)
    assert {digest_of(data) for name, data in plan.files if "/" in name} == set(entry.documents)
    assert [(root["mediaType"], root["digest"], root["size"]) for root in roots_of(plan)] == [
        (OCI_INDEX, target, len(entry.documents[target]))
    ]


def test_what_an_image_needs_besides_its_layers_is_sent_if_it_is_kept() -> None:
    made = Making(containerd=True)
    attestation = bytes(300_000)
    made.add([BASE], "web:1", attestation=attestation)
    entry = made.entry()
    unkept = tuple(
        msgspec.structs.replace(b, recipe=None) if b.media_type == IN_TOTO else b
        for b in entry.blobs
    )

    assert plan_load(LAYOUT, entry, {digest_of(gzipped(BASE))}).blobs == (digest_of(attestation),)
    assert plan_load(LAYOUT, replace(entry, blobs=unkept), ()).blobs == (digest_of(gzipped(BASE)),)


def test_each_tag_is_a_root_with_its_full_name() -> None:
    made = Making(containerd=True)
    target = made.add([BASE], "web:1", "example.com:5000/web:2", "team/web:3")

    roots = roots_of(plan_load(LAYOUT, made.entry(), ()))

    assert {root["digest"] for root in roots} == {target}
    assert [root["annotations"][NAME] for root in roots] == [
        "docker.io/library/web:1",
        "example.com:5000/web:2",
        "docker.io/team/web:3",
    ]


@pytest.mark.parametrize("containerd", [False, True])
def test_parents_without_a_tag_are_not_sent_to_a_containerd_store(containerd: bool) -> None:
    entry, _ = chain_of_three(containerd=containerd)

    assert LAYOUT.images(entry) == entry.images[2:]
    assert [image.tags for image in LAYOUT.expected(entry)] == [("web:1", "web:2")]
    assert len({root["digest"] for root in roots_of(plan_load(LAYOUT, entry, ()))}) == 1


def test_an_image_without_a_tag_that_nothing_was_built_on_is_sent_without_a_name() -> None:
    made = Making(containerd=True)
    stage = made.add([BASE, MIDDLE])

    (root,) = roots_of(plan_load(LAYOUT, made.entry(), ()))

    assert (root["digest"], "annotations" in root) == (stage, False)


def test_a_parent_with_a_tag_is_sent() -> None:
    made = Making()
    base = made.add([BASE], "base:1")
    made.add([BASE, TOP], "web:1", parent=base)

    assert len(LAYOUT.expected(made.entry())) == 2


def test_an_image_of_a_graphdriver_store_is_given_a_manifest() -> None:
    entry = entry_of([BASE, TOP])
    (expected,) = LAYOUT.expected(entry)
    files = files_of(plan_load(LAYOUT, entry, ()))

    assert files[f"blobs/sha256/{expected.id[7:]}"] == {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(OCI_CONFIG, config_json([BASE, TOP])),
        "layers": [described(OCI_LAYER, BASE), described(OCI_LAYER, TOP)],
    }
    assert f"blobs/sha256/{entry.images[0].config[7:]}" in files


def test_the_config_of_such_an_image_is_not_taken_for_a_manifest() -> None:
    """It has a field `config`, too."""
    config = encode({"config": {"Cmd": ["sh"]}, "rootfs": {"diff_ids": [digest_of(BASE)]}})
    name = digest_of(config)
    entry = entry_of([BASE])
    image = msgspec.structs.replace(entry.images[0], id=name, config=name)

    (expected,) = LAYOUT.expected(replace(entry, images=(image,), documents={name: config}))

    assert expected.id != name


def test_an_image_with_other_layers_than_its_manifest_is_given_another() -> None:
    made = Making(containerd=True)
    target = made.add([BASE, TOP], "web:1")
    entry = made.entry()
    image = msgspec.structs.replace(entry.images[0], layers=entry.images[0].layers[::-1])

    (expected,) = LAYOUT.expected(replace(entry, images=(image,)))

    assert expected.id != target


def test_the_manifest_depends_on_nothing_but_the_image() -> None:
    alone, together = Making(), Making()
    alone.add([BASE, TOP], "web:1")
    together.add([OTHER], "other:1")
    base = together.add([BASE])
    together.add([BASE, TOP], "web:2", parent=base)

    (one,), (_, other) = LAYOUT.expected(alone.entry()), LAYOUT.expected(together.entry())

    assert one.id == other.id


@pytest.mark.parametrize("lost", ["target", "manifest"])
def test_an_image_whose_own_documents_are_not_in_the_entry_is_given_a_manifest(lost: str) -> None:
    made = Making(containerd=True)
    target = made.add([BASE], "web:1", attestation=b"{}")
    documents = {
        digest: data
        for digest, data in made.documents.items()
        if (digest == target if lost == "target" else b'"config"' in data) is False
    }
    entry = replace(made.entry(), documents=documents)

    (expected,) = LAYOUT.expected(entry)

    assert expected.id != target
    manifest = files_of(plan_load(LAYOUT, entry, ()))[f"blobs/sha256/{expected.id[7:]}"]
    assert manifest["layers"] == [described(GZIP, gzipped(BASE))]


@pytest.mark.parametrize("tag", ["Web:1", "web:", ":1", "web:1:2", "a" * 64, "-", "x" * 300])
def test_an_impossible_tag_is_corrupt(tag: str) -> None:
    made = Making()
    made.add([BASE], tag)

    with pytest.raises(CorruptData, match="impossible tag"):
        LAYOUT.describe(made.entry())


@pytest.mark.parametrize("document", [b"", b"[]", b"{", b'{"manifests":[{}]}', b'{"config":1}'])
def test_a_document_that_is_none_is_corrupt(document: bytes) -> None:
    made = Making(containerd=True)
    made.add([BASE], "web:1")
    image = msgspec.structs.replace(made.images[0], id=digest_of(document))
    documents = made.documents | {digest_of(document): document}

    with pytest.raises(CorruptData):
        LAYOUT.describe(replace(made.entry(), images=(image,), documents=documents))


# What is missing afterwards


def test_an_image_that_is_not_there_is_missing() -> None:
    image = Expected(digest_of(TOP), (), None)

    assert missing_images([image], {digest_of(BASE): None}) == (image,)
    assert missing_images([image], {image.id: None}) == ()


def test_an_image_without_the_parent_that_it_should_have_is_missing() -> None:
    image = Expected(digest_of(TOP), (), digest_of(BASE))

    assert missing_images([image], {image.id: None}) == (image,)
    assert missing_images([image], {image.id: digest_of(OTHER)}) == (image,)
    assert missing_images([image], {image.id: digest_of(BASE)}) == ()


def test_a_parent_that_nobody_asked_for_is_no_reason_to_send_an_image() -> None:
    image = Expected(digest_of(TOP), (), None)

    assert missing_images([image], {image.id: digest_of(BASE)}) == ()
