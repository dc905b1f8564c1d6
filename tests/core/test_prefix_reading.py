"""Reading a Dockerfile and a layer's headers: plain things are read, all else is left alone."""

from __future__ import annotations

import contextlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.core.copied_files import find_origins, read_copy
from longshore.core.dockerfile import Instruction, Unclear, read_dockerfile
from longshore.core.dockerignore import read_ignored
from longshore.core.images import Step
from longshore.core.layer_members import Member, read_members
from longshore.core.step_matching import differs
from longshore.core.tarsplit import TarSplitter


def read(text: str) -> list[tuple[str, str]]:
    (stage,) = read_dockerfile(text.encode()).stages
    return [(found.keyword, found.text) for found in stage.instructions]


def instruction(line: str) -> Instruction:
    (stage,) = read_dockerfile(f"FROM base\n{line}\n".encode()).stages
    return stage.instructions[0]


# As the classic builder notes them down; observed on 20.10.24 and 28.5.2.
NOTED = {
    "ARG WHO=nobody": "/bin/sh -c #(nop)  ARG WHO=nobody",
    "ARG A B=2": "/bin/sh -c #(nop)  ARG A B=2",
    "ENV X=1 Y=two": "/bin/sh -c #(nop)  ENV X=1 Y=two",
    "ENV Z a b": "/bin/sh -c #(nop)  ENV Z=a b",
    'ENV Q="q q"  W=$X': "/bin/sh -c #(nop)  ENV Q=q q W=1",
    'LABEL a=b "c d"=e': "/bin/sh -c #(nop)  LABEL a=b c d=e",
    "WORKDIR /app": "/bin/sh -c #(nop) WORKDIR /app",
    "WORKDIR sub": "/bin/sh -c #(nop) WORKDIR /app/sub",
    "USER root": "/bin/sh -c #(nop)  USER root",
    "COPY a /data/": "/bin/sh -c #(nop) COPY file:9ac00b in /data/ ",
    "COPY --chown=1:1 a b /data2/": "/bin/sh -c #(nop) COPY --chown=1:1multi:dac0 in /data2/ ",
    'COPY ["a", "x y/"]': "/bin/sh -c #(nop) COPY file:9ac00b in x y/ ",
    "ADD dir /added": "/bin/sh -c #(nop) ADD dir:094f45 in /added ",
    "RUN echo   hi && \\\n    # no\n    echo $WHO": (
        "|2 B=2 WHO=nobody /bin/sh -c echo   hi &&     echo $WHO"
    ),
    'RUN ["echo", "a b"]': "|2 B=2 WHO=nobody echo a b",
    "EXPOSE 80 90/udp": "/bin/sh -e -c #(nop)  EXPOSE 80 90/udp",
    "VOLUME /v": "/bin/sh -e -c #(nop)  VOLUME [/v]",
    "CMD x y": '/bin/sh -e -c #(nop)  CMD ["/bin/sh" "-e" "-c" "x y"]',
    "HEALTHCHECK NONE": "/bin/sh -e -c #(nop)  HEALTHCHECK &{[NONE] 0s 0s 0s 0s 0}",
    "RUN echo 'a < b > c & \\\"é'": "/bin/sh -c echo 'a < b > c & \\\"é'",
}


@pytest.mark.parametrize("line", NOTED)
def test_what_the_classic_builder_notes_of_an_instruction_is_that_instruction(line: str) -> None:
    assert not differs(instruction(line), Step(NOTED[line]))


@pytest.mark.parametrize(
    ("line", "noted"),
    [
        ("RUN npm ci", "/bin/sh -c npm install"),
        ("RUN npm ci", "/bin/sh -c #(nop)  ENV A=1"),
        ("ENV A=1", "/bin/sh -c npm ci"),
        ("ENV A=1", "/bin/sh -c #(nop)  ENV A=2"),
        ("WORKDIR /app", "/bin/sh -c #(nop) WORKDIR /srv"),
        ("COPY a /b", "/bin/sh -c #(nop) COPY file:9ac00b in /c "),
        ("COPY a /b", "/bin/sh -c #(nop) ADD file:9ac00b in /b "),
    ],
)
def test_another_instruction_is_told_apart(line: str, noted: str) -> None:
    assert differs(instruction(line), Step(noted))


def test_lines_are_joined_as_builders_do() -> None:
    assert read("# escape=`\nFROM base\nRUN a ` \n # no\n\n  b\r\nenv A=1") == [
        ("RUN", "a b"),
        ("ENV", "A=1"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "RUN a",
        "FROM base\nRUN cat <<EOF\nx\nEOF",
        "FROM base\nNEW x",
        "FROM base\nRUN a\\\\\nb",
    ],
)
def test_what_is_not_plain_is_unclear(text: str) -> None:
    with pytest.raises(Unclear):
        read_dockerfile(text.encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_a_dockerfile_or_unclear(data: bytes) -> None:
    with contextlib.suppress(Unclear):
        assert read_dockerfile(b"FROM base\n" + data).stages


def test_stages_that_begin_with_another_one_hold_its_instructions() -> None:
    found = read_dockerfile(b"ARG V=1\nFROM node:$V AS a\nRUN x\nFROM A AS b\nRUN y\n")
    stage = found.flattened(found.target("B"))
    assert (stage.base, stage.varies) == ("node:1", True)
    assert [one.text for one in stage.instructions] == ["x", "y"]


NAMES = st.text("ab.é/", min_size=1, max_size=250).filter(
    lambda name: all(part not in ("", ".", "..") for part in name.split("/"))
)


@given(
    st.dictionaries(NAMES, st.binary(max_size=1500), max_size=5),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_members_are_read_from_headers_alone(files: dict[str, bytes], form: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    headers, payload = TarSplitter().feed(buffer.getvalue())
    found = read_members(b"".join(headers))
    assert found == tuple(Member(n, "file", len(c), 0o755) for n, c in files.items())
    assert b"".join(payload) == b"".join(files.values())


@given(st.binary(max_size=3000))
def test_headers_of_any_bytes_are_read_without_harm(data: bytes) -> None:
    read_members(data)


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "/etc/passwd", "a//b", ""])
def test_a_layer_cannot_name_files_outside_of_the_context(name: str) -> None:
    copy = read_copy(instruction("COPY . /app"))
    assert copy is not None
    origins = find_origins(copy, [Member(f"app/{name}", "file", 1, 0o644)], "/", lambda _: "folder")
    assert origins.paths == (None,)
    assert not origins.is_whole


def test_ignored_files_are_perhaps_more_than_are_ignored() -> None:
    ignored = read_ignored(b"node_modules\n**/*.log\n!keep.log\n/dist/\n# x\n")
    for path in ("node_modules/a/b", "a.log", "x/y/b.log", "keep.log", "dist/a"):
        assert ignored.fullmatch(path), path
    for path in ("src/a.js", "distance", "a.logs"):
        assert not ignored.fullmatch(path), path
    assert read_ignored(b"[a-b]").fullmatch("anything")
