"""Comparing a layer with a checkout: a certain change is found, and nothing else is called one."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from tests.core.chunks import MAIN_PACK

from longshore.core.copied_files import read_copy
from longshore.core.dockerfile import read_dockerfile
from longshore.core.dockerignore import NOTHING, read_ignored
from longshore.core.layer_members import read_members
from longshore.core.recipe import Chunk
from longshore.core.tarsplit import TarSplitter
from longshore.ops.checkout import Checkout
from longshore.ops.copied import Layer, find_change

FILES = {"a": b"a" * 700, "src/b": b"b" * 1500, "src/deep/c": b"", "src/deep/d": b"d" * 99}


def layer_of(files: Mapping[str, bytes], *, chunk_bytes: int = 400) -> Layer:
    """Make what is known of the layer of a copy."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), 0o644, 12345
            tar.addfile(member, io.BytesIO(content))
    headers, pieces = TarSplitter().feed(buffer.getvalue())
    payload = b"".join(pieces)
    members = read_members(b"".join(headers))
    assert members is not None
    cut = [payload[at : at + chunk_bytes] for at in range(0, len(payload), chunk_bytes)]
    chunks = [Chunk(blake3(part).digest(), len(part), MAIN_PACK, 0, 1) for part in cut]
    return Layer(members, tuple(chunks))


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def change(
    folder: Path,
    layer: Layer,
    line: str = "COPY . /app",
    *,
    inside: str = "/",
    ignored: bytes = b"",
) -> str | None:
    (stage,) = read_dockerfile(f"FROM base\n{line}\n".encode()).stages
    copy = read_copy(stage.instructions[0])
    assert copy is not None
    with Checkout(folder) as checkout:
        return find_change(
            layer, copy, inside, checkout, read_ignored(ignored) if ignored else NOTHING
        )


@pytest.fixture
def layer() -> Layer:
    return layer_of({f"app/{name}": content for name, content in FILES.items()})


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    write(tmp_path, FILES)
    return tmp_path


NAMES = st.sampled_from(["a", "b", "x/a", "x/b", "x/y/c", "z/a"])
CHANGES = st.sampled_from(["nothing", "content", "size", "mode", "new", "missing", "times", "link"])


@given(st.dictionaries(NAMES, st.binary(max_size=900), min_size=1), CHANGES, st.data())
def test_a_change_is_found_and_nothing_else_is_called_one(
    files: dict[str, bytes], kind: str, data: st.DataObject
) -> None:
    chosen = data.draw(st.sampled_from(sorted(files)))
    folder = Path(tempfile.mkdtemp())
    try:
        write(folder, files)
        layer = layer_of({f"app/{name}": content for name, content in files.items()})
        path, certain = folder / chosen, kind in ("size", "mode", "new")
        if kind == "content" and files[chosen]:
            certain = True
            path.write_bytes(bytes([files[chosen][0] ^ 1]) + files[chosen][1:])
        elif kind == "size":
            path.write_bytes(files[chosen] + b"+")
        elif kind == "mode":
            path.chmod(0o755)
        elif kind == "new":
            (folder / "new").write_bytes(b"")
        elif kind == "missing":
            path.unlink()
        elif kind == "times":
            os.utime(path, (1, 1))
        elif kind == "link":
            path.unlink()
            path.symlink_to("/etc/passwd")
        assert (change(folder, layer) is not None) == certain
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("line", "inside", "names"),
    [
        ("COPY a /data/", "/", {"data/a": "a"}),
        ("COPY a /renamed", "/", {"renamed": "a"}),
        ("COPY a ./", "/app", {"app/a": "a"}),
        ("COPY ? ./", "/app", {"app/a": "a"}),
        ("COPY a src/b /both/", "/", {"both/a": "a", "both/b": "src/b"}),
        (
            "COPY src .",
            "/app",
            {"app/b": "src/b", "app/deep/c": "src/deep/c", "app/deep/d": "src/deep/d"},
        ),
        ("ADD src/deep /d", "/", {"d/c": "src/deep/c", "d/d": "src/deep/d"}),
    ],
)
def test_each_kind_of_copy_is_compared(
    line: str, inside: str, names: dict[str, str], checkout: Path
) -> None:
    layer = layer_of({name: FILES[origin] for name, origin in names.items()})
    assert change(checkout, layer, line, inside=inside) is None
    for origin in set(names.values()):
        (checkout / origin).write_bytes(FILES[origin][:-1] + b"?")
        assert change(checkout, layer, line, inside=inside) == origin
        (checkout / origin).write_bytes(FILES[origin])


def test_what_lies_elsewhere_in_the_layer_is_in_doubt(checkout: Path, layer: Layer) -> None:
    """As behind a link of the image: nothing can be told of what is new then."""
    (checkout / "new").write_bytes(b"")
    assert change(checkout, layer, "COPY . /other") is None
    assert change(checkout, layer, "COPY . /app") == "new"


def test_a_new_file_that_may_be_ignored_is_no_change(checkout: Path, layer: Layer) -> None:
    write(checkout, {"node_modules/x": b"x", "src/a.log": b"log"})
    assert change(checkout, layer, ignored=b"node_modules\n**/*.log\n!src/a.log\n") is None
    assert change(checkout, layer, ignored=b"node_modules\n") == "src/a.log"


def test_links_in_the_checkout_lead_nowhere(checkout: Path, layer: Layer) -> None:
    outside = checkout.parent / f"{checkout.name}-outside"
    write(outside, {"b": b"secret", "deep/d": b"secret"})
    shutil.rmtree(checkout / "src")
    (checkout / "src").symlink_to(outside)
    with Checkout(checkout) as opened:
        assert opened.open("src/b") is None
        assert opened.look("src/b") is None
        assert opened.names("src") == []
        assert opened.open("../" + outside.name + "/b") is None
        assert opened.look("..") is None
    assert change(checkout, layer) is None


def test_a_pipe_in_the_checkout_is_not_waited_for(checkout: Path, layer: Layer) -> None:
    (checkout / "a").unlink()
    os.mkfifo(checkout / "a")
    assert change(checkout, layer) is None


def test_no_folder_stays_open(checkout: Path, layer: Layer) -> None:
    before = len(os.listdir("/proc/self/fd"))
    change(checkout, layer)
    assert len(os.listdir("/proc/self/fd")) == before
