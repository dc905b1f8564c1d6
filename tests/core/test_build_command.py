"""Which commands build, for both kinds of services files."""

from __future__ import annotations

import pytest

from longshore.core.build_command import codeship_command, compose_command, compose_files
from longshore.core.handover import Handover
from longshore.core.services import Service, parse_services
from longshore.errors import UsageError

HERE = frozenset({"compose.yaml", "Dockerfile"})


def codeship(text: str) -> Service:
    found = parse_services(
        text, path="codeship-services.yml", environment={"TOKEN": "t"}, directory_name="shop"
    )
    return found.services[0]


def test_services_file_that_was_found_is_given_with_its_override() -> None:
    assert compose_files("compose.yaml", named=False, beside=HERE, variables={}) == (
        "compose.yaml",
    )
    for override in ("compose.override.yaml", "docker-compose.override.yml"):
        files = compose_files("compose.yaml", named=False, beside={*HERE, override}, variables={})
        assert files == ("compose.yaml", override)


def test_first_override_by_composes_order_is_the_only_one() -> None:
    beside = {*HERE, "compose.override.yaml", "compose.override.yml"}
    files = compose_files("compose.yaml", named=False, beside=beside, variables={})

    assert files == ("compose.yaml", "compose.override.yml")


def test_services_file_that_was_named_is_given_alone() -> None:
    files = compose_files(
        "ci/compose.yaml",
        named=True,
        beside={*HERE, "compose.override.yaml"},
        variables={"COMPOSE_FILE": "other.yaml"},
    )

    assert files == ("ci/compose.yaml",)


@pytest.mark.parametrize(
    ("variables", "files"),
    [
        ({"COMPOSE_FILE": "compose.yaml:ci.yaml"}, ("compose.yaml", "ci.yaml")),
        (
            {"COMPOSE_FILE": "./compose.yaml,ci.yaml", "COMPOSE_PATH_SEPARATOR": ","},
            ("./compose.yaml", "ci.yaml"),
        ),
        ({"COMPOSE_FILE": ""}, ("compose.yaml",)),
    ],
)
def test_files_of_compose_file_take_the_place_of_those_that_are_found(
    variables: dict[str, str], files: tuple[str, ...]
) -> None:
    assert compose_files("compose.yaml", named=False, beside=HERE, variables=variables) == files


def test_compose_file_without_the_services_file_is_refused() -> None:
    with pytest.raises(UsageError, match="--services"):
        compose_files(
            "compose.yaml", named=False, beside=HERE, variables={"COMPOSE_FILE": "b.yaml"}
        )


def test_compose_gets_all_files_then_the_override_then_arguments_and_services() -> None:
    command = compose_command(["a.yaml", "b.yaml"], "/tmp/o.yaml", ["--pull"], ["web"])

    assert command == [
        *("compose", "-f", "a.yaml", "-f", "b.yaml", "-f", "/tmp/o.yaml"),
        *("build", "--pull", "web"),
    ]
    assert compose_command(["a.yaml"], None, [], []) == ["compose", "-f", "a.yaml", "build"]


def test_codeship_service_is_built_with_context_dockerfile_arguments_and_tag() -> None:
    service = codeship(
        "web:\n"
        "  cached: true\n"
        "  build:\n"
        "    image: shop/web\n"
        "    context: app\n"
        "    dockerfile: Dockerfile.ci\n"
        "    args: {MODE: production, DEBUG: true, COUNT: 3, TOKEN: $TOKEN, HOME: }\n"
    )
    told = Handover("web", cache_from=("shop/web:latest",))

    assert codeship_command(service, ".", told, ["--pull"]) == [
        *("build", "--cache-from", "shop/web:latest"),
        *("--build-arg", "MODE=production", "--build-arg", "DEBUG=true", "--build-arg", "COUNT=3"),
        *("--build-arg", "TOKEN=t", "--build-arg", "HOME"),
        *("--pull", "--tag", "shop/web:latest", "--file", "app/Dockerfile.ci", "app"),
    ]


@pytest.mark.parametrize(
    ("build", "command"),
    [
        ("build: {image: a, path: x, dockerfile_path: D}", ["--file", "x/D", "x"]),
        ("build: {image: a}", ["."]),
        ("image: a\n  build: ./x\n  dockerfile: D", ["--file", "x/D", "x"]),
        ("build: {image: a, args: [A=1, B]}", ["--build-arg", "B", "--tag", "a:latest", "."]),
    ],
)
def test_older_forms_of_codeships_files_are_understood(build: str, command: list[str]) -> None:
    service = codeship(f"web:\n  cached: true\n  {build}\n")

    built = codeship_command(service, ".", None, [])
    assert built[-len(command) :] == command


def test_context_counts_from_the_services_file_on() -> None:
    service = codeship("web: {cached: true, build: {image: a, context: app}}\n")

    assert codeship_command(service, "ci", None, [])[-1] == "ci/app"


def test_encrypted_arguments_are_noticed() -> None:
    text = "web: {cached: true, build: {image: a, encrypted_args_file: secret}}\n"

    assert codeship(text).has_encrypted_args
    assert not codeship(text.replace(", encrypted_args_file: secret", "")).has_encrypted_args


def test_codeship_service_may_declare_a_cache_directory() -> None:
    service = codeship(
        "web: {cached: true, build: {image: a}, x-longshore: {buildkit_cache: .cache/web}}\n"
    )

    assert service.buildkit_cache == ".cache/web"
    assert not service.plain_layers


def test_codeship_service_may_ask_for_an_uncompressed_image() -> None:
    asks = "x-longshore: {image_compression: uncompressed}"

    assert codeship(f"web: {{cached: true, build: {{image: a}}, {asks}}}\n").plain_layers


@pytest.mark.parametrize("output", [["-o", "out"], ["-oout"], ["--output=out"], ["--push"]])
def test_output_that_somebody_gives_by_hand_is_the_only_one(output: list[str]) -> None:
    service = codeship("web: {cached: true, build: {image: a}}\n")
    told = Handover("web", cache_from=("a",), output="type=image")
    words = ["build", "--cache-from", "a", "--output", "type=image"]

    assert codeship_command(service, ".", told, ["--pull"])[:6] == [*words, "--pull"]
    built = codeship_command(service, ".", told, output)
    assert built[: 3 + len(output)] == [*words[:3], *output]


def test_image_that_has_a_digest_for_a_name_cannot_be_built() -> None:
    service = codeship(f"web: {{cached: true, build: {{image: 'a@sha256:{'0' * 64}'}}}}\n")

    with pytest.raises(UsageError, match="give it a tag"):
        codeship_command(service, ".", None, [])
