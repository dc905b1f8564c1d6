from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest

from longshore.core.comparing import ImageComparison, Side, compare_images
from longshore.core.digests import Digest
from longshore.core.history import command_of, created_at, layers_of
from longshore.core.images import Step


def digest(text: str) -> Digest:
    return Digest("sha256:" + hashlib.sha256(text.encode()).hexdigest())


def side(
    steps: Sequence[tuple[str, str | None]],
    *,
    name: str = "image",
    tags: Sequence[str] = (),
    exact: bool = True,
) -> Side:
    """Describe an image by its commands and the layers that they made.

    Args:
        exact: know which steps made a layer; else those named `empty…` look as if they made none,
            as an engine shows them.
    """
    return Side(
        id=digest(name),
        tags=tuple(tags),
        diff_ids=tuple(digest(layer) for _, layer in steps if layer is not None),
        steps=tuple(
            Step(
                created_by=command,
                empty_layer=layer is None or (not exact and layer.startswith("empty")),
            )
            for command, layer in steps
        ),
    )


def compare(engine: Side, cached: Side) -> ImageComparison:
    return compare_images(engine, cached, {})


def states(result: ImageComparison) -> list[str]:
    return [step.state for step in result.steps]


BASE = [("ADD rootfs", "base"), ("ENV A=1", None), ("RUN npm ci", "modules"), ("COPY . .", "code")]


def test_an_image_with_the_same_id_is_identical() -> None:
    result = compare(side(BASE), side(BASE))

    assert result.identical
    assert result.verdict == "identical"
    assert result.common_layers == 3
    assert states(result) == ["same"] * 4
    assert result.parts_at is None


def test_another_id_with_the_same_layers_and_steps_is_another_config() -> None:
    result = compare(side(BASE, name="a"), side(BASE, name="b"))

    assert not result.identical
    assert result.verdict == "same layers, other config"


def test_ids_of_different_image_stores_are_not_held_against_each_other() -> None:
    result = compare_images(side(BASE, name="a"), side(BASE, name="b"), {}, same_kind_of_id=False)

    assert result.verdict == "same layers and steps"


def test_the_same_id_from_another_kind_of_store_is_no_proof() -> None:
    result = compare_images(side(BASE), side(BASE), {}, same_kind_of_id=False)

    assert not result.identical


def test_a_changed_command_is_where_they_part_and_both_commands_are_shown() -> None:
    changed = [*BASE[:2], ("RUN npm install", "other"), ("COPY . .", "code")]
    result = compare(side(changed, name="a"), side(BASE))

    assert states(result) == ["same", "same", "changed", "same"]
    assert result.verdict == "part at step 3 of 4: RUN npm install"
    assert result.steps[2].cached_command == "RUN npm ci"
    assert result.parts_at == 2


def test_layers_above_the_first_difference_are_not_in_common_even_if_equal() -> None:
    changed = [*BASE[:2], ("RUN npm install", "other"), ("COPY . .", "code")]
    result = compare(side(changed, name="a"), side(BASE))

    assert result.common_layers == 1
    assert [layer.same for layer in result.layers] == [True, False, False]


def test_the_same_command_with_another_layer_was_rebuilt() -> None:
    rebuilt = [*BASE[:3], ("COPY . .", "new code")]
    result = compare(side(rebuilt, name="a"), side(BASE))

    assert states(result) == ["same", "same", "same", "rebuilt"]
    assert result.verdict == "part at step 4 of 4: COPY . ."


def test_a_step_that_was_inserted_is_only_in_the_engine() -> None:
    inserted = [*BASE[:2], ("RUN apt-get update", "apt"), *BASE[2:]]
    result = compare(side(inserted, name="a"), side(BASE))

    assert states(result) == ["same", "same", "only in engine", "same", "same"]
    assert result.verdict == "part at step 3 of 5: RUN apt-get update"
    assert result.steps[2].cached_number is None
    assert result.steps[3].engine_number == 4
    assert result.steps[3].cached_number == 3


def test_a_step_that_was_removed_is_only_in_the_cache() -> None:
    result = compare(side(BASE[:3], name="a"), side(BASE))

    assert states(result) == ["same", "same", "same", "only in cache"]
    assert result.verdict == "part at step 4 of 4 in the cache: COPY . ."
    assert result.layers[-1].engine is None
    assert not result.layers[-1].same


def test_a_changed_step_without_layer_leaves_the_layers_the_same() -> None:
    changed = [BASE[0], ("ENV A=2", None), *BASE[2:]]
    result = compare(side(changed, name="a"), side(BASE))

    assert result.common_layers == 3
    assert result.verdict == "same layers, other config: part at step 2 of 4: ENV A=2"


def test_images_without_history_part_at_a_layer() -> None:
    engine = Side(digest("a"), (), (digest("1"), digest("2"), digest("3")), ())
    cached = Side(digest("b"), (), (digest("1"), digest("x")), ())

    assert compare(engine, cached).verdict == "part at layer 2 of 3"


def test_images_that_share_nothing_part_at_the_first_step() -> None:
    result = compare(side([("ADD b", "x")], name="a"), side(BASE))

    assert result.common_layers == 0
    assert result.verdict == "part at step 1 of 1: ADD b"


def test_an_empty_layer_that_the_engine_does_not_show_is_found_by_its_counterpart() -> None:
    steps = [("ADD rootfs", "base"), ("make", "empty"), ("ENV A=1", None), ("RUN x", "x")]
    result = compare(side(steps, exact=False, name="a"), side(steps))

    assert states(result) == ["same"] * 4
    assert result.steps[1].engine_layer == digest("empty")


def test_layers_that_cannot_be_told_do_not_make_steps_differ() -> None:
    engine = side([("a", "empty 1"), ("b", "empty 2")], exact=False, name="a")
    cached = side([("a", "empty 1"), ("c", "empty 2")])
    result = compare(engine, cached)

    assert result.steps[0].state == "same"
    assert result.steps[0].engine_layer is None


def test_tags_are_told_apart() -> None:
    result = compare(side(BASE, tags=["web:1", "web:2"]), side(BASE, tags=["web:0", "web:1"]))

    assert result.tags == ("web:1",)
    assert result.tags_only_in_engine == ("web:2",)
    assert result.tags_only_in_cache == ("web:0",)


def test_sizes_are_those_of_the_cached_layers() -> None:
    changed = [*BASE[:3], ("COPY . .", "new code"), ("RUN x", "modules")]
    result = compare_images(
        side(changed, name="a"),
        side(BASE),
        {digest("base"): 1, digest("modules"): 2, digest("code"): 3},
    )

    assert [layer.size_bytes for layer in result.layers] == [1, 2, 3, 2]


def test_a_history_of_absurd_length_is_compared_in_no_time() -> None:
    cached = Side(digest("b"), (), (), tuple(Step(created_by=str(n % 7)) for n in range(50_000)))
    result = compare(Side(digest("a"), (), (), cached.steps[:-1]), cached)

    assert states(result)[-2:] == ["same", "only in cache"]


@pytest.mark.parametrize(
    ("created_by", "command"),
    [
        ("/bin/sh -c npm ci", "RUN npm ci"),
        ('/bin/sh -c #(nop)  CMD ["sh"]', 'CMD ["sh"]'),
        ("/bin/sh -c #(nop) COPY file:ab in /x ", "COPY file:ab in /x"),
        ("|2 TOKEN=secret B=2 /bin/sh -c make all", "RUN make all"),
        ("RUN /bin/sh -c make all # buildkit", "RUN make all"),
        ("RUN |1 TOKEN=secret /bin/sh -c make all # buildkit", "RUN make all"),
        ("COPY . . # buildkit", "COPY . ."),
        ("ENV A=1", "ENV A=1"),
        ("/bin/bash -c make", "/bin/bash -c make"),
        ("/bin/sh -c apt-get update \t\n   && true", "RUN apt-get update && true"),
        ("RUN echo \x1b[31mred", "RUN echo �[31mred"),
        ("", "(no command)"),
        ("   ", "(no command)"),
    ],
)
def test_commands_read_as_in_the_dockerfile(created_by: str, command: str) -> None:
    assert command_of(Step(created_by=created_by)) == command


def test_a_step_without_command_is_told_by_its_comment() -> None:
    assert command_of(Step(comment="Imported from -")) == "Imported from -"


def test_times_are_read_with_nanoseconds_and_zones() -> None:
    created = created_at(Step(created="2026-01-02T03:04:05.123456789Z"))

    assert created is not None
    assert created.isoformat() == "2026-01-02T03:04:05.123456+00:00"
    assert created_at(Step(created="2026-01-02T03:04:05")) is not None
    assert created_at(Step(created="yesterday")) is None
    assert created_at(Step()) is None


def test_layers_belong_to_the_steps_that_made_them() -> None:
    steps = [Step("a"), Step("b", empty_layer=True), Step("c")]

    assert layers_of(steps, [digest("1"), digest("2")]) == (digest("1"), None, digest("2"))
    assert layers_of(steps, [digest("1")]) == (None, None, None)


def test_commands_are_one_printable_line_of_bearable_length() -> None:
    assert command_of(Step("a\x1b]0;b\x07\r\nc")) == "a�]0;b� c"
    assert len(command_of(Step("x" * 100_000))) == 2000
