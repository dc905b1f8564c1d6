"""What each builder is told, and what it is not, since a cache never makes a build fail."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from longshore.core.builder import Builder, Client, Tool, choose_builder
from longshore.core.digests import Digest, digest_of
from longshore.core.handover import (
    Handover,
    HeldDirectory,
    HeldImage,
    hand_over,
)
from longshore.core.handover_forms import bake_override, compose_override, flag_line, flag_words
from longshore.core.images import Step
from longshore.core.yaml_reader import parse_yaml
from longshore.errors import UsageError

CLASSIC = Builder("classic", "graphdriver", "28.5.2")
CLASSIC_CONTAINERD = Builder("classic", "containerd", "28.5.2")
INLINE = Builder("buildkit", "graphdriver", "28.5.2")
CONTAINERD = Builder("buildkit", "containerd", "28.5.2")
REMOTE = Builder("buildkit", "graphdriver", "28.5.2", driver="docker-container")

EXPORT = (
    "mode=max,compression=uncompressed,force-compression=true,oci-mediatypes=true,ignore-error=true"
)
WEB, DEPS = HeldImage(("shop/web:1",)), HeldImage(("shop/web:deps",))
CACHE = HeldDirectory(".cache/web", "usable")


def image(name: str, *steps: str) -> HeldImage:
    """Describe an image by its steps; those of ENV and CMD make no layer."""
    done = tuple(Step(created_by=s, empty_layer=s.startswith(("ENV", "CMD"))) for s in steps)
    layers = tuple(digest_of(step.created_by.encode()) for step in done if not step.empty_layer)
    return HeldImage((name,), layers, done)


def over(builder: Builder, *images: HeldImage, **more: Any) -> Handover:
    directory = more.pop("directory", None)
    return hand_over("web", images, directory, builder, **more)


# Which builder


@pytest.mark.parametrize(
    ("client", "version", "builder"),
    [
        (Client("docker"), "28.5.2", "buildkit"),
        (Client("docker"), "23.0.0", "buildkit"),
        (Client("docker"), "20.10.24+dfsg1", "classic"),
        (Client("docker"), "unknown", "buildkit"),
        (Client("docker", docker_buildkit="1"), "20.10.24", "buildkit"),
        (Client("docker", docker_buildkit="true"), "20.10.24", "buildkit"),
        (Client("docker", docker_buildkit="0"), "28.5.2", "classic"),
        (Client("docker", docker_buildkit="False"), "28.5.2", "classic"),
        (Client("docker", asked="classic", docker_buildkit="1"), "28.5.2", "classic"),
        (Client("docker", asked="buildkit", docker_buildkit="0"), "28.5.2", "buildkit"),
        (Client("docker", has_buildx=True), "28.5.2", "buildkit"),
        (Client("docker", has_buildx=False), "28.5.2", "classic"),
        (Client("docker", has_buildx=False, docker_buildkit="1"), "28.5.2", "buildkit"),
        (Client("compose", has_buildx=False), "28.5.2", "buildkit"),
        (Client("compose", docker_buildkit="0"), "28.5.2", "classic"),
        (Client("bake", docker_buildkit="0"), "20.10.24", "buildkit"),
    ],
)
def test_builder_is_the_one_that_the_docker_command_takes(
    client: Client, version: str, builder: str
) -> None:
    assert choose_builder(client, version) == builder


def test_docker_buildkit_that_is_no_truth_value_is_refused() -> None:
    with pytest.raises(UsageError, match="DOCKER_BUILDKIT='maybe'"):
        choose_builder(Client("docker", docker_buildkit="maybe"), "28.5.2")


def test_bake_cannot_be_classic() -> None:
    with pytest.raises(UsageError, match="leave --classic away"):
        choose_builder(Client("bake", asked="classic"), "28.5.2")


# Classic, graphdriver


def test_classic_builder_is_told_the_images_of_stages_and_then_the_service_itself() -> None:
    told = over(CLASSIC, WEB, DEPS)

    assert told == Handover("web", cache_from=("shop/web:deps", "shop/web:1"))


def test_classic_builder_on_graphdriver_does_not_mind_steps_without_layers() -> None:
    told = over(CLASSIC, image("shop/web:1", "FROM", "ENV", "RUN"))

    assert told.cache_from == ("shop/web:1",)


def test_classic_builder_without_images_is_told_nothing_and_why() -> None:
    told = over(CLASSIC)

    assert told.is_empty
    assert told.notes == ("the engine has none of its images",)


def test_classic_builder_does_not_use_a_cache_directory() -> None:
    told = over(CLASSIC, WEB, directory=CACHE)

    assert told.cache_from == ("shop/web:1",)
    assert told.cache_to == ()
    assert "buildkit_cache" in told.notes[0]


def test_compose_hands_nothing_to_the_classic_builder_and_the_note_says_so() -> None:
    told = over(Builder("classic", "graphdriver", "28.5.2", tool="compose"), WEB)

    assert told.cache_from == ("shop/web:1",)
    assert "Compose does not tell the classic builder" in told.notes[0]


# Classic, containerd


def test_image_whose_last_step_alone_made_no_layer_is_named() -> None:
    told = over(CLASSIC_CONTAINERD, image("shop/web:1", "FROM", "RUN", "CMD"))

    assert told == Handover("web", cache_from=("shop/web:1",))


def test_image_with_a_step_without_layer_before_its_last_is_left_out() -> None:
    told = over(CLASSIC_CONTAINERD, image("shop/web:1", "FROM", "ENV A=1", "RUN"))

    assert told.is_empty
    assert "shop/web:1 is left out" in told.notes[0]
    assert "(ENV A=1)" in told.notes[0]
    assert "x-longshore: {buildkit_cache: .cache/web}" in told.notes[0]


def test_images_are_left_out_one_by_one() -> None:
    own = image("shop/web:1", "FROM", "RUN", "COPY")
    told = over(CLASSIC_CONTAINERD, own, image("shop/web:deps", "FROM", "ENV", "RUN"))

    assert told.cache_from == ("shop/web:1",)
    assert len(told.notes) == 1


def test_steps_of_the_base_image_do_not_count() -> None:
    base = image("node:20", "FROM", "ENV NODE", "CMD node")
    own = image("shop/web:1", "FROM", "ENV NODE", "CMD node", "RUN", "CMD")

    assert over(CLASSIC_CONTAINERD, own, others=[base, own]).cache_from == ("shop/web:1",)
    assert over(CLASSIC_CONTAINERD, own, others=[own]).is_empty


def test_image_with_other_layers_is_not_the_base_though_its_steps_read_alike() -> None:
    base = HeldImage(
        ("node:20",),
        (Digest(digest_of(b"another")),),
        image("node:20", "FROM", "ENV NODE").steps,
    )
    own = image("shop/web:1", "FROM", "ENV NODE", "RUN")

    assert over(CLASSIC_CONTAINERD, own, others=[base, own]).is_empty


def test_image_with_other_steps_is_not_the_base() -> None:
    base = image("node:20", "FROM", "ENV OTHER")
    own = image("shop/web:1", "FROM", "ENV NODE", "RUN")

    assert over(CLASSIC_CONTAINERD, own, others=[base, own]).is_empty


def test_earlier_build_of_the_same_image_is_not_taken_for_its_base() -> None:
    earlier = image("shop/web:0", "FROM", "ENV A=1", "RUN")
    own = image("shop/web:1", "FROM", "ENV A=1", "RUN", "COPY")

    assert over(CLASSIC_CONTAINERD, own, others=[earlier, own]).is_empty


def test_stage_that_others_are_built_on_is_not_taken_for_a_base() -> None:
    stage = image("deps:1", "FROM", "ENV A=1", "RUN")
    own = image("shop/web:1", "FROM", "ENV A=1", "RUN", "COPY")

    assert over(CLASSIC_CONTAINERD, own, stage, others=[stage, own]).is_empty


def test_of_several_possible_bases_the_shortest_counts() -> None:
    debian = image("debian:12", "FROM")
    node = image("node:20", "FROM", "ENV NODE")
    own = image("shop/web:1", "FROM", "ENV NODE", "RUN")

    assert over(CLASSIC_CONTAINERD, own, others=[node]).cache_from == ("shop/web:1",)
    assert over(CLASSIC_CONTAINERD, own, others=[node, debian]).is_empty


# BuildKit, graphdriver


def test_buildkit_on_graphdriver_is_told_tags_and_to_make_an_inline_cache() -> None:
    told = over(INLINE, WEB, DEPS)

    assert told.cache_from == ("shop/web:1", "shop/web:deps")
    assert told.build_args == {"BUILDKIT_INLINE_CACHE": "1"}
    assert told.cache_to == ()
    assert told.notes == ()


def test_first_build_makes_an_inline_cache_too() -> None:
    told = over(INLINE)

    assert told.cache_from == ()
    assert told.build_args == {"BUILDKIT_INLINE_CACHE": "1"}


def test_image_that_has_a_digest_for_a_name_is_not_looked_up_in_a_registry() -> None:
    told = over(INLINE, HeldImage((f"shop/web@sha256:{'0' * 64}",)))

    assert told.cache_from == ()


@pytest.mark.parametrize(
    ("version", "noted"),
    [("26.1.5", False), ("27.0.0", True), ("27.1.2", True), ("27.2.0", False), ("odd", False)],
)
def test_engines_that_do_not_find_inline_caches_are_told_of(version: str, noted: bool) -> None:
    told = over(Builder("buildkit", "graphdriver", version), WEB)

    assert told.cache_from == ("shop/web:1",)
    assert any("moby/buildkit#5242" in note for note in told.notes) == noted


def test_buildkit_on_graphdriver_reads_a_cache_directory_and_never_writes_one() -> None:
    told = over(INLINE, WEB, directory=CACHE)

    assert told.cache_from == ("shop/web:1", "type=local,src=.cache/web")
    assert told.cache_to == ()
    assert "cannot write" in told.notes[0]


@pytest.mark.parametrize("state", ["absent", "damaged"])
def test_buildkit_on_graphdriver_is_not_told_of_a_directory_that_is_no_cache(state: Any) -> None:
    told = over(INLINE, WEB, directory=HeldDirectory(".cache/web", state))

    assert told.cache_from == ("shop/web:1",)


# BuildKit, containerd, and other drivers


@pytest.mark.parametrize("builder", [CONTAINERD, REMOTE])
def test_only_the_cache_directory_counts_where_images_are_not_considered(builder: Builder) -> None:
    told = over(builder, WEB, DEPS, directory=CACHE)

    assert told.cache_from == ("type=local,src=.cache/web",)
    assert told.cache_to == (f"type=local,dest=.cache/web,{EXPORT}",)
    assert told.build_args == {}
    assert told.notes == ()


PLAIN = "type=image,compression=uncompressed"


@pytest.mark.parametrize("directory", [None, CACHE, HeldDirectory(".cache/web", "damaged")])
def test_image_is_left_uncompressed_only_where_the_service_asks_for_it(
    directory: HeldDirectory | None,
) -> None:
    usual = over(CONTAINERD, directory=directory)
    told = over(CONTAINERD, directory=directory, plain_layers=True)

    assert (usual.output, told.output) == ("", PLAIN)
    assert told == replace(usual, output=PLAIN)
    assert not told.is_empty
    assert flag_words(told) == [*flag_words(usual), "--output", PLAIN]
    targets = json.loads(bake_override([told]))["target"]
    assert targets["web"]["output"] == [PLAIN]


@pytest.mark.parametrize("builder", [CLASSIC, CLASSIC_CONTAINERD, INLINE, REMOTE])
def test_builders_that_write_no_compressed_layers_are_not_told_of_it(builder: Builder) -> None:
    assert over(builder, plain_layers=True) == over(builder)


def test_compose_cannot_be_told_to_leave_an_image_uncompressed_and_the_note_says_so() -> None:
    compose = Builder("buildkit", "containerd", "28.5.2", tool="compose")
    told = over(compose, directory=CACHE, plain_layers=True)

    assert told.output == ""
    assert "Compose cannot be told" in told.notes[0]
    assert told.cache_from == over(compose, directory=CACHE).cache_from


def test_first_build_writes_the_cache_directory() -> None:
    told = over(CONTAINERD, directory=HeldDirectory(".cache/web", "absent"))

    assert told.cache_from == ()
    assert told.cache_to == (f"type=local,dest=.cache/web,{EXPORT}",)
    assert told.notes == ("there is no cache in .cache/web yet",)


@pytest.mark.parametrize(
    ("builder", "who"),
    [(CONTAINERD, "on this image store"), (REMOTE, "the driver docker-container")],
)
def test_without_a_cache_directory_the_note_says_how_to_get_a_warm_build(
    builder: Builder, who: str
) -> None:
    told = over(builder, WEB)

    assert told.is_empty
    assert who in told.notes[0]
    assert "x-longshore: {buildkit_cache: .cache/web}" in told.notes[0]


def test_damaged_cache_directory_is_neither_read_nor_written() -> None:
    told = over(CONTAINERD, directory=HeldDirectory(".cache/web", "damaged"))

    assert told.is_empty
    assert "remove the directory" in told.notes[0]


def test_directory_that_cannot_be_written_is_only_read() -> None:
    told = over(CONTAINERD, directory=HeldDirectory("/ro/web", "usable", writable=False))

    assert told.cache_from == ("type=local,src=/ro/web",)
    assert told.cache_to == ()
    assert "cannot be written" in told.notes[0]


def test_path_with_a_comma_is_quoted_as_buildx_reads_it() -> None:
    told = over(CONTAINERD, directory=HeldDirectory('a,"b"', "usable"))

    assert told.cache_from == ('type=local,"src=a,""b"""',)


# Forms

TOLD = Handover(
    "web",
    cache_from=("shop/web:1", "type=local,src=.cache/web"),
    cache_to=("type=local,dest=.cache/web",),
    build_args={"BUILDKIT_INLINE_CACHE": "1"},
)
NOTHING = Handover("api", notes=("none",))


def test_flags_are_one_line_of_pairs() -> None:
    words = flag_words(TOLD)

    assert words == [
        *("--cache-from", "shop/web:1"),
        *("--cache-from", "type=local,src=.cache/web"),
        *("--cache-to", "type=local,dest=.cache/web"),
        *("--build-arg", "BUILDKIT_INLINE_CACHE=1"),
    ]
    assert flag_line(TOLD) == (" ".join(words), ())
    assert flag_line(NOTHING) == ("", ())


@pytest.mark.parametrize(
    "path", ["my cache", "a*", "$HOME", "a'b", 'a"b', "a;b", "a\nb", "ä", "~a"]
)
def test_what_a_shell_would_take_apart_is_not_among_the_flags(path: str) -> None:
    told = Handover("web", cache_from=("shop/web:1", f"type=local,src={path}"))

    assert flag_line(told) == ("--cache-from shop/web:1", (f"type=local,src={path}",))


def test_compose_override_says_what_differs_from_the_projects_own_file() -> None:
    text = compose_override([TOLD, NOTHING])

    assert text.splitlines()[1:] == [
        "services:",
        '  "web":',
        "    build:",
        "      cache_from:",
        '        - "shop/web:1"',
        '        - "type=local,src=.cache/web"',
        "      cache_to:",
        '        - "type=local,dest=.cache/web"',
        "      args:",
        '        BUILDKIT_INLINE_CACHE: "1"',
    ]


def test_compose_override_without_services_is_a_valid_file() -> None:
    root = parse_yaml(compose_override([NOTHING]), path="f")

    services = root.get("services")
    assert services is not None
    assert services.entries() == {}


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("a${B}$c", "a$${B}$$c"),
        ('a"b', 'a"b'),
        ("a\\b", "a\\b"),
        ("a: #b", "a: #b"),
        ("ä\t", "ä\t"),
    ],
)
def test_compose_override_keeps_every_path(path: str, written: str) -> None:
    text = compose_override([Handover("w.b", cache_from=(path,))])
    services = parse_yaml(text, path="f").get("services")

    assert services is not None
    (service,) = services.entries().values()
    build = service.get("build")
    assert build is not None
    found = build.get("cache_from")
    assert found is not None
    assert [item.text() for item in found.items()] == [written]


def test_bake_override_names_targets_as_bake_does() -> None:
    text = bake_override([Handover("w.b", cache_from=("a${B}%{c}",)), TOLD, NOTHING])

    document = parse_yaml(text, path="f").get("target")
    assert document is not None
    assert list(document.entries()) == ["w_b", "web"]
    assert '"a$${B}%%{c}"' in text
    for key in ("cache-from", "cache-to", "args"):
        assert document.entries()["web"].get(key)


def test_bake_override_without_targets_is_an_empty_document() -> None:
    assert bake_override([NOTHING]) == "{}"


@pytest.mark.parametrize("tool", ["docker", "compose", "bake"])
def test_the_tool_does_not_change_what_buildkit_is_told(tool: Tool) -> None:
    told = over(Builder("buildkit", "graphdriver", "28.5.2", tool=tool), WEB)

    assert told == over(INLINE, WEB)
