"""A services file says which images are cached; a wrong one is refused by file, line and key."""

from __future__ import annotations

import re
from textwrap import dedent

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from longshore.core import yaml_reader
from longshore.core.references import ImageReference
from longshore.core.services import (
    Service,
    ServicesFile,
    find_services_file,
    parse_image_option,
    parse_image_options,
    parse_services,
)
from longshore.errors import UsageError


def _parse(
    text: str | bytes,
    path: str = "compose.yaml",
    environment: dict[str, str] | None = None,
    project_name: str | None = None,
    directory_name: str = "My.App",
) -> ServicesFile:
    return parse_services(
        dedent(text) if isinstance(text, str) else text,
        path=path,
        environment=environment or {},
        project_name=project_name,
        directory_name=directory_name,
    )


def _codeship(text: str, **environment: str) -> ServicesFile:
    return _parse(text, "codeship-services.yml", environment)


def _images(file: ServicesFile) -> dict[str, list[str]]:
    return {service.name: [image.familiar for image in service.images] for service in file.services}


def _refused(text: str | bytes, path: str = "compose.yaml", **environment: str) -> str:
    with pytest.raises(UsageError) as caught:
        _parse(text, path, environment)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_compose_service_is_cached_when_it_says_so() -> None:
    file = _parse("""
        services:
          web:
            image: myorg/web:${TAG:-latest}
            build:
              context: ./web
              dockerfile: Dockerfile.ci
            x-longshore: {cached: true}
          db:
            image: postgres:16
          worker:
            build: worker
            profiles: [jobs]
            x-longshore:
              cached: true
              images: [myorg/worker:deps, "myorg/worker:${TAG:-test}", myapp-worker]
              buildkit_cache: /cache
          lean:
            build: .
            x-longshore:
              {cached: true, image: "${KEPT:-no}", buildkit_cache: lean,
               image_compression: "${HOW:-uncompressed}"}
          empty:
    """)
    assert file == ServicesFile(
        path="compose.yaml",
        kind="compose",
        project_name="myapp",
        services=(
            Service(
                "web",
                (ImageReference.parse("myorg/web"),),
                build_context="./web",
                dockerfile="Dockerfile.ci",
            ),
            Service(
                "worker",
                tuple(
                    ImageReference.parse(name)
                    for name in ("myapp-worker", "myorg/worker:deps", "myorg/worker:test")
                ),
                build_context="worker",
                buildkit_cache="/cache",
            ),
            Service(
                "lean",
                (ImageReference.parse("myapp-lean"),),
                build_context=".",
                buildkit_cache="lean",
                keeps_image=False,
                plain_layers=True,
            ),
        ),
        uncached=("db", "empty"),
    )


def test_the_file_can_have_every_build_cached_and_a_service_can_differ() -> None:
    file = _parse("""
        x-longshore: {cached: true}
        services:
          a: {build: .}
          b: {build: {target: x}, x-longshore: {cached: false}}
          c: {image: redis}
          d: {image: redis, x-longshore: {cached: yes}}
          e: {build: ., x-longshore: {images: [e:deps]}}
    """)
    assert _images(file) == {
        "a": ["myapp-a:latest"],
        "d": ["redis:latest"],
        "e": ["myapp-e:latest", "e:deps"],
    }
    assert file.uncached == ("b", "c")
    assert file.services[0].build_context == "."


@pytest.mark.parametrize(
    ("head", "environment", "given_name", "directory", "expected"),
    [
        ("", {}, None, "My.App", "myapp"),
        ("", {}, None, "_-_app", "app"),
        ("", {}, None, "日本", None),
        ("name: other", {}, None, "dir", "other"),
        ("name: My ${WHO:-Org}", {"WHO": "x"}, None, "dir", "myx"),
        ("name: other", {"COMPOSE_PROJECT_NAME": "env"}, None, "dir", "env"),
        ("name: other", {"COMPOSE_PROJECT_NAME": ""}, None, "dir", "other"),
        ("name: other", {"COMPOSE_PROJECT_NAME": "env"}, "given", "dir", "given"),
    ],
)
def test_the_project_is_named_as_compose_names_it(
    head: str,
    environment: dict[str, str],
    given_name: str | None,
    directory: str,
    expected: str | None,
) -> None:
    text = f"{head}\nservices: {{a: {{image: b}}}}"
    assert (
        _parse(text, "c/compose.yml", environment, given_name, directory).project_name == expected
    )


def test_an_image_without_a_name_is_called_after_project_and_service() -> None:
    text = "services: {web: {build: ., x-longshore: {cached: true}}}"
    assert _images(_parse(text)) == {"web": ["myapp-web:latest"]}
    old = _parse(text, environment={"COMPOSE_COMPATIBILITY": "true"})
    assert _images(old) == {"web": ["myapp_web:latest"]}
    empty = text.replace("build:", "image: '${IMAGE:-}', build:")
    assert _images(_parse(empty)) == {"web": ["myapp-web:latest"]}


def test_the_name_of_the_project_can_be_used_in_the_file() -> None:
    text = "services: {web: {image: 'r.io/$COMPOSE_PROJECT_NAME', x-longshore: {cached: true}}}"
    assert _images(_parse(text)) == {"web": ["r.io/myapp:latest"]}


def test_variables_that_are_unset_are_told() -> None:
    text = "services: {web: {image: 'a:x$TAG$TAG', x-longshore: {cached: '${ON:-true}'}}}"
    assert _parse(text).unset_variables == ("TAG",)


def test_anchors_aliases_and_merge_keys_work() -> None:
    file = _parse("""
        x-base: &base
          image: myorg/base
          x-longshore: &on {cached: true}
        x-more: &more {image: myorg/more, build: more}
        services:
          a: *base
          b: {<<: *base, image: &name myorg/b}
          c:
            <<: [*more, *base]
            build: {context: c}
          d: {image: *name, x-longshore: *on}
        x-quoted: {"<<": 1, "<< ": 2}
    """)
    assert _images(file) == {
        "a": ["myorg/base:latest"],
        "b": ["myorg/b:latest"],
        "c": ["myorg/more:latest"],
        "d": ["myorg/b:latest"],
    }
    assert file.services[2].build_context == "c"


WRONG: list[tuple[str | bytes, str]] = [
    (
        "services:\n  web:\n    x-longshore:\n      cached: ja",
        "4: services.web.x-longshore.cached: expected true or false, got 'ja'",
    ),
    (
        "services: {a: {x-longshore: {cached: [1]}}}",
        "1: services.a.x-longshore.cached: expected true or false, got a list",
    ),
    (
        "services: {a: {x-longshore: {\n cache: true}}}",
        (
            "2: services.a.x-longshore.cache: unknown key; known here: cached, image, images,"
            " buildkit_cache"
        ),
    ),
    (
        (
            "services:\n"
            "  a: {image: a, x-longshore: {cached: true, buildkit_cache: .cache}}\n"
            "  b: {image: b, x-longshore: {cached: true, buildkit_cache: .cache}}"
        ),
        "3: services.b: another service has the same buildkit_cache '.cache'",
    ),
    (
        "services: {a: {build: ., x-longshore: {cached: true, image: false}}}",
        (
            "1: services.a.x-longshore.image: nothing of the service would be kept; give it a"
            " `buildkit_cache`"
        ),
    ),
    (
        "services: {a: {x-longshore: {image: false, images: [b], buildkit_cache: c}}}",
        (
            "1: services.a.x-longshore.images: `image: false` says that none is kept; leave one of"
            " the two away"
        ),
    ),
    (
        "services: {a: {image: a, x-longshore: {cached: true, image_compression: zip}}}",
        (
            "1: services.a.x-longshore.image_compression: no compression of images; known here:"
            " gzip, uncompressed"
        ),
    ),
    (
        "services: {a: {image: a, x-longshore: {image: true}}}",
        "1: services.a.x-longshore.image: the service is not cached; add `cached: true` beside it",
    ),
    (
        "x-longshore: {images: []}\nservices: {}",
        "1: x-longshore.images: unknown key; known here: cached",
    ),
    (
        "services: {a: {x-longshore: true}}",
        "1: services.a.x-longshore: expected a mapping such as {cached: true}, got 'true'",
    ),
    (
        "services:\n  a:\n    cached: true",
        "3: services.a.cached: not a key of Compose; write `x-longshore: {cached: true}`",
    ),
    (
        "services:\n  a:\n    x-longshore: {images: [x]}",
        "3: services.a.x-longshore.images: the service is not cached",
    ),
    (
        "services:\n  a:\n    x-longshore:\n      cached: true\n      images: x",
        "5: services.a.x-longshore.images: expected a list of images, got 'x'",
    ),
    (
        "services:\n  a:\n    build: .\n    x-longshore: {cached: true, images: [x,\n Bad]}",
        "5: services.a.x-longshore.images[1]: invalid image reference 'Bad'",
    ),
    (
        "services:\n  a:\n    image: b:${X}\n    x-longshore: {cached: true}",
        "3: services.a.image: invalid image reference 'b:': the tag is empty",
    ),
    (
        "services:\n  a:\n    image: b:${X:?not here}\n    x-longshore: {cached: true}",
        "3: services.a.image: at character 3: required variable X is missing a value: not here",
    ),
    (
        "services:\n  a:\n    image: [b]\n    x-longshore: {cached: true}",
        "3: services.a.image: expected the name of an image, got a list",
    ),
    ("services:\n  a:\n    image: false\n    x-longshore: {cached: true}", "got 'false'"),
    (
        "services:\n  a:\n    x-longshore: {cached: true}",
        "2: services.a: a cached service needs an `image` or a `build`",
    ),
    (
        "services:\n  a:\n    extends: b\n    x-longshore: {cached: true}",
        "2: services.a: longshore does not follow `extends`",
    ),
    (
        "services:\n  A:\n    build: .\n    x-longshore: {cached: true}",
        "2: services.A: invalid image reference 'myapp-A'",
    ),
    (
        "services:\n  a:\n    build: [.]\n    x-longshore: {cached: true}",
        "3: services.a.build: expected a directory, or a mapping",
    ),
    ("services:\n  a b: {}", "2: services.'a b': a service's name"),
    ("services:\n  a: 1", "2: services.a: expected a mapping, got '1'"),
    ("services: [a]", "1: services: expected a mapping, got a list"),
    ("name: [a]\nservices: {}", "1: name: expected text, got a list"),
    ("name: ${X}\nservices: {}", "1: name: the project name comes out empty"),
    (
        "services:\n  a:\n    image: b\n    image: c",
        "4: services.a.image: is given twice, first on line 3",
    ),
    ("a: 1\nb: 2\na: 3", "3: a: is given twice, first on line 1"),
    ("services:\n  a:\n    <<: {image: b}\n    <<: {image: c}", "4: services.a.<<: is given twice"),
    ("services:\n  a:\n    <<: [1]", "3: services.a.<<: expected a mapping, or a list of them"),
    ("services: {a: *nope}", "1: services.a: the alias *nope has no anchor before it"),
    ("services: &a\n  b: *a", "2: services.b: the alias *a stands inside what it names"),
    ("services: {[a]: b}", "1: services: a key has to be text"),
    ("services: {}\n---\nservices: {}", "2: expected one document"),
    ("services:\n\ta: b", "2: not YAML: found character that cannot start any token"),
    ("services: {a: [}", "1: not YAML:"),
    ("services: {a: b", "not YAML:"),
    ("a: 'x\x07'", "1: not YAML: control characters are not allowed"),
    ("ab: 1\nc: '\x00'", "2: not YAML: control characters are not allowed"),
    ("- a", "1: expected services, but the file does not hold a mapping"),
    ("", "1: expected services"),
    ("just text", "1: expected services"),
    ("# nothing\n", "1: expected services"),
    ("a: " + "[" * 20_000, "1: a"),
    (b"a: \xff", "is not UTF-8"),
    ("a: 1".encode("utf-16"), "is not UTF-8"),
    ("a: \ud800", "is not UTF-8"),
    ("a: " + "x" * 1024 * 1024, "is larger than 1024 KiB"),
]


@pytest.mark.parametrize(("text", "told"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_file_is_refused_by_file_line_and_key(text: str | bytes, told: str) -> None:
    message = _refused(text)
    assert message.startswith("compose.yaml:")
    assert told in message
    assert len(message) < 400


def test_the_message_is_exactly_what_the_issue_asks_for() -> None:
    text = "\n" * 8 + "services:\n  web:\n    x-longshore:\n      cached: 'ja'\n"
    assert _refused(text) == (
        "compose.yaml:12: services.web.x-longshore.cached: expected true or false, got 'ja'"
    )


@pytest.mark.parametrize("name", ["My-App", "_app", "a.b"])
def test_a_project_name_that_is_given_has_to_be_valid(name: str) -> None:
    assert "COMPOSE_PROJECT_NAME" in _refused("services: {}", COMPOSE_PROJECT_NAME=name)
    with pytest.raises(UsageError, match="the project name"):
        _parse("services: {}", project_name=name)


def test_a_project_without_a_name_matters_only_to_images_without_one() -> None:
    text = "services: {a: {image: b, x-longshore: {cached: true}}}"
    assert _images(_parse(text, directory_name="日本")) == {"a": ["b:latest"]}
    with pytest.raises(UsageError, match=r"services\.a: the image has no name"):
        _parse(text.replace("image: b", "build: ."), directory_name="日本")


def test_aliases_that_blow_a_file_up_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "holds more than 100000 values" in _refused("\n".join(lines))
    keys = ", ".join(f"k{n}: 1" for n in range(2000))
    merges = "\n".join("- {<<: *a}" for _ in range(1000))
    assert "holds more than 100000 values" in _refused(f"a: &a {{{keys}}}\nb:\n{merges}")


def test_values_can_be_nested_a_hundred_deep() -> None:
    assert _parse("services: {}\nx: " + "[" * 99 + "]" * 99).services == ()
    assert "nested more than 100 deep" in _refused("services: {}\nx: " + "[" * 100 + "]" * 100)


def test_a_file_may_begin_with_a_byte_order_mark_and_have_windows_lines() -> None:
    text = "\ufeffservices:\r\n  a:\r\n    image: b\r\n    x-longshore: {cached: true}\r\n"
    for data in (text, text.encode()):
        assert _images(_parse(data)) == {"a": ["b:latest"]}
    assert _refused(text.replace("true", "1")).startswith("compose.yaml:4: services.a.x-longshore")


def test_tags_construct_nothing() -> None:
    text = "services: {a: {image: !!python/object/apply:os.getcwd [], build: !x .}}"
    assert _parse(text).uncached == ("a",)
    text = "services: {a: {image: !reset null, build: !x b, x-longshore: {cached: !!bool true}}}"
    assert _images(_parse(text)) == {"a": ["myapp-a:latest"]}


def test_numbers_stay_as_they_are_written() -> None:
    text = "services: {a: {image: 1.10, x-longshore: {cached: true}}}"
    assert _images(_parse(text)) == {"a": ["1.10:latest"]}


def test_a_codeship_service_is_cached_when_it_says_so() -> None:
    file = _codeship("""
        app:
          build:
            image: codeship/app
            path: app
            dockerfile_path: Dockerfile.test
            args: {build_env: production}
          encrypted_env_file: env.encrypted
          cached: true
          default_cache_branch: "develop"
        data:
          image: busybox
          cached: true
        plain: {build: ./dir}
        mysql/base: {image: mysql, cached: false}
    """)
    assert file == ServicesFile(
        path="codeship-services.yml",
        kind="codeship",
        project_name="myapp",
        services=(
            Service(
                "app",
                (ImageReference.parse("codeship/app"),),
                build_context="app",
                dockerfile="Dockerfile.test",
                default_fallback="develop",
                build_args=("build_env=production",),
            ),
            Service("data", (ImageReference.parse("busybox"),)),
        ),
        uncached=("plain", "mysql/base"),
    )


def test_codeship_services_may_stand_below_services() -> None:
    file = _codeship(
        """
        version: '2'
        services:
          app:
            build: {image: "app:${TAG}", context: ., dockerfile: D}
            cached: true
            x-longshore: {images: [app:deps]}
        """,
        TAG="t",
    )
    assert _images(file) == {"app": ["app:t", "app:deps"]}
    assert (file.services[0].build_context, file.services[0].dockerfile) == (".", "D")


def test_a_codeship_build_may_be_a_directory_if_the_image_has_a_name() -> None:
    file = _codeship("app: {build: ./dir, image: app, cached: true}")
    assert (_images(file), file.services[0].build_context) == ({"app": ["app:latest"]}, "./dir")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("app:\n  cached: true\n  build: .", "3: app.build: the image has no name, and Codeship"),
        ("app:\n  cached: true\n  build: {path: x}", "3: app.build: the image has no name"),
        ("app:\n  cached: true", "1: app: a cached service needs"),
        ("app:\n  cached: maybe", "2: app.cached: expected true or false, got 'maybe'"),
        ("app: [x]", "1: app: expected a service, got a list"),
        (
            "app: {image: x, cached: true,\n default_cache_branch: {}}",
            "2: app.default_cache_branch",
        ),
    ],
)
def test_a_wrong_codeship_file_is_refused_by_file_line_and_key(text: str, told: str) -> None:
    message = _refused(text, "ci/codeship-services.yml")
    assert message.startswith("ci/codeship-services.yml:")
    assert told in message


@pytest.mark.parametrize(
    ("path", "text", "kind"),
    [
        ("codeship-services.yml", "services: {a: {image: b}}", "codeship"),
        ("x/CODESHIP-services.yaml", "a: {image: b}", "codeship"),
        ("docker-compose.yml", "services: {a: {build: {image: b}}}", "compose"),
        ("ci.yml", "services: {a: {image: b}}", "compose"),
        ("ci.yml", "include: [x]", "compose"),
        ("ci.yml", "services:", "compose"),
        ("ci.yml", "a: {image: b}", "codeship"),
        ("ci.yml", "services: {a: {image: b, cached: true}}", "codeship"),
        ("ci.yml", "services: {a: {build: {image: b}}}", "codeship"),
    ],
)
def test_the_kind_of_a_file_follows_from_its_name_else_from_its_keys(
    path: str, text: str, kind: str
) -> None:
    assert _parse(text, path).kind == kind


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], None),
        (["README.md", "compose.json"], None),
        (["docker-compose.yaml", "docker-compose.yml"], "docker-compose.yml"),
        (["docker-compose.yml", "compose.yml"], "compose.yml"),
        (["compose.yml", "compose.yaml"], "compose.yaml"),
        (["compose.yaml", "codeship-services.yml"], "codeship-services.yml"),
        (["codeship-services.yaml", "codeship-services.yml"], "codeship-services.yml"),
    ],
)
def test_one_file_of_a_directory_is_the_services_file(names: list[str], found: str | None) -> None:
    assert find_services_file(names) == found


def test_images_can_be_named_without_a_file() -> None:
    assert parse_image_option("web=myorg/web:latest") == Service(
        "web", (ImageReference.parse("myorg/web"),)
    )
    services = parse_image_options(["web=a", "db=b:1", "web=a:deps", "web=a:latest"])
    assert [(service.name, [str(image) for image in service.images]) for service in services] == [
        ("web", ["a:latest", "a:deps"]),
        ("db", ["b:1"]),
    ]


@pytest.mark.parametrize("option", ["", "web", "=web", "web=", " = ", "web=A", "web=a b"])
def test_a_wrong_image_option_is_refused(option: str) -> None:
    with pytest.raises(UsageError, match=r"^--image "):
        parse_image_option(option)


def test_files_are_read_alike_without_the_library_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_reader, "_LOADER", yaml.SafeLoader)
    test_anchors_aliases_and_merge_keys_work()
    assert "2: not YAML: special characters" in _refused("é: 1\nc: '\x00'")
    assert "nested more than 100" in _refused("a: " + "[" * 20_000)


_scalars = st.sampled_from(
    [
        "true",
        "ja",
        "~",
        ".",
        "web",
        "a:$T",
        "${X",
        "1.0",
        "*a",
        "&a x",
        "Bad",
        "'",
        "{",
        "- x",
        "!!x y",
    ]
)
_keys = st.sampled_from(
    ["services", "x-longshore", "cached", "image", "images", "build", "web", "<<", "name", "&a k",
     "extends", "context", "default_cache_branch"]
)  # fmt: skip


@st.composite
def _files(draw: st.DrawFn) -> str:
    lines, depth = [], 0
    for _ in range(draw(st.integers(0, 12))):
        depth = draw(st.integers(0, depth + 1))
        value = draw(st.just("") | _scalars)
        lines.append(f"{'  ' * depth}{draw(_keys)}: {value}")
    return "\n".join(lines)


@given(
    _files() | st.text(max_size=60) | st.binary(max_size=60), st.sampled_from(["compose.yml", "x"])
)
def test_any_file_gives_services_or_a_usage_error(text: str | bytes, path: str) -> None:
    try:
        file = parse_services(text, path=path, environment={"T": "t"}, directory_name="d")
    except UsageError as error:
        outcome = str(error)
    else:
        outcome = f"{path}: {len(file.services)} services"
    assert re.match(rf"^(?:{re.escape(path)}:)", outcome)
    assert "\n" not in outcome
