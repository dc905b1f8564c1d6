"""The throw-away engines themselves: what the other engine tests take for granted."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from docker.errors import BuildError
from tests.engine_fixtures import FreshEngine, prepare_engine
from tests.support.engines import (
    GENERATIONS,
    EngineFailed,
    EngineUnavailable,
    Generation,
    ImageStore,
    control_groups,
    find_engine,
    mounts_below,
    processes_of,
)
from tests.support.images import build, history_ids, import_busybox, pack, transfer

ENGINES: list[tuple[Generation, ImageStore]] = [
    *((generation, "graphdriver") for generation in GENERATIONS),
    ("28.5", "containerd"),
]
DOCKERFILE = """\
FROM busybox:test
ENV GREETING=hello
COPY greeting /greeting
RUN cat /greeting > /copy
"""


@pytest.mark.parametrize(("generation", "image_store"), ENGINES)
def test_classic_builder_runs_each_step_once_and_then_uses_its_cache(
    fresh_engine: FreshEngine, generation: Generation, image_store: ImageStore
) -> None:
    engine = fresh_engine(generation, image_store)
    base = import_busybox(engine.api)
    first = build(engine.api, DOCKERFILE, {"greeting": b"hi"}, tag="app:1")
    again = build(engine.api, DOCKERFILE, {"greeting": b"hi"}, tag="app:2")
    changed = build(engine.api, DOCKERFILE, {"greeting": b"ho"}, tag="app:3")

    assert engine.version.startswith(f"{generation}.") or generation == "28.5"
    assert (first.steps_run, first.steps_cached) == (3, 0)
    assert (again.steps_run, again.steps_cached) == (0, 3)
    assert (changed.steps_run, changed.steps_cached) == (2, 1)
    assert first.image_id == again.image_id != changed.image_id
    assert history_ids(engine.api, "app:1")[0] == first.image_id
    assert history_ids(engine.api, "app:1")[-1] == base


@pytest.mark.parametrize(("generation", "image_store"), ENGINES)
def test_container_runs_without_network(
    fresh_engine: FreshEngine, generation: Generation, image_store: ImageStore
) -> None:
    engine = fresh_engine(generation, image_store)
    import_busybox(engine.api)
    output = engine.api.containers.run(
        "busybox:test", ["echo", "hello", "there"], network_mode="none", remove=True
    )

    assert output == b"hello there\n"


def test_base_image_is_the_same_on_the_engine_it_is_carried_to(fresh_engine: FreshEngine) -> None:
    source, target = fresh_engine("28.5"), fresh_engine("20.10")
    base = import_busybox(source.api)

    assert transfer(source.api, target.api, "busybox:test") == base
    assert target.api.images.get(base).tags == ["busybox:test"]


def test_failed_step_raises_with_the_engines_words(fresh_engine: FreshEngine) -> None:
    engine = fresh_engine()
    import_busybox(engine.api)

    with pytest.raises(BuildError, match="returned a non-zero code: 7"):
        build(engine.api, "FROM busybox:test\nRUN exit 7\n", tag="app:1")


def test_images_survive_a_restart_and_a_crash(fresh_engine: FreshEngine) -> None:
    engine = fresh_engine()
    base = import_busybox(engine.api)
    engine.api.containers.run(
        "busybox:test", ["sleep", "1000"], network_mode="none", init=True, detach=True
    )

    engine.restart()
    assert engine.api.images.get("busybox:test").id == base

    engine.kill()
    assert processes_of(engine.root) == {}
    assert not engine.is_running

    engine.start()
    assert engine.api.images.get("busybox:test").id == base


@pytest.mark.parametrize(("generation", "image_store"), ENGINES)
@pytest.mark.parametrize("in_memory", [False, True], ids=["disk", "tmpfs"])
def test_stop_leaves_no_process_no_mount_no_file_and_no_control_group(
    fresh_engine: FreshEngine, generation: Generation, image_store: ImageStore, in_memory: bool
) -> None:
    engine = fresh_engine(generation, image_store, in_memory=in_memory)
    import_busybox(engine.api)
    engine.api.containers.run("busybox:test", ["sleep", "1000"], network_mode="none", detach=True)
    assert len(processes_of(engine.root)) >= 3  # dockerd, containerd and a shim
    assert control_groups(engine.root) != []

    engine.stop()

    assert processes_of(engine.root) == {}
    assert mounts_below(engine.root) == []
    assert control_groups(engine.root) == []
    assert not engine.root.exists()
    engine.stop()  # again is no error


def test_mount_made_from_outside_is_gone_after_stop(fresh_engine: FreshEngine) -> None:
    engine = fresh_engine()
    place = engine.root / "a mount"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    assert mounts_below(engine.root) == [place]

    engine.stop()

    assert mounts_below(engine.root) == []
    assert not engine.root.exists()


def test_engine_dies_with_the_process_that_started_it() -> None:
    with _starter("signal.pause()") as starter:
        root = Path(_line(starter))
        running = processes_of(root)
        starter.kill()
    try:
        assert len(running) >= 3  # unshare, dockerd and containerd
        assert _all_ended(list(running), within_seconds=20)
    finally:
        shutil.rmtree(root)  # nobody was left to do that


def test_forgotten_engine_is_gone_at_exit() -> None:
    with _starter("pass") as starter:
        root = Path(_line(starter))
        assert starter.wait(60) == 0

    assert processes_of(root) == {}
    assert not root.exists()


def test_engine_that_cannot_start_says_why_and_leaves_nothing() -> None:
    engine = prepare_engine()
    (engine.root / "data").write_text("not a folder")
    try:
        with pytest.raises(EngineFailed, match="not a directory"):
            engine.start()
        assert processes_of(engine.root) == {}
    finally:
        engine.stop()
    assert not engine.root.exists()


def test_binaries_that_were_not_fetched_are_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGSHORE_CACHE", str(tmp_path))
    with pytest.raises(EngineUnavailable, match=r"run scripts/engines|as root"):
        find_engine("26.1")


def test_packed_tar_depends_on_its_contents_only() -> None:
    assert pack({"a": b"1", "b": b"2"}) == pack({"b": b"2", "a": b"1"})


def _starter(then: str) -> subprocess.Popen[str]:
    """Run another Python that starts an engine, prints its root, and does `then`."""
    prepare_engine().stop()  # skips the test where there can be no engine
    script = (
        "import signal\n"
        "from tests.support.engines import ThrowawayEngine, find_engine\n"
        "engine = ThrowawayEngine(find_engine('28.5'))\n"
        "engine.start()\n"
        "print(engine.root, flush=True)\n"
        f"{then}\n"
    )
    checkout = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=checkout
    )


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _all_ended(pids: list[int], *, within_seconds: float) -> bool:
    deadline = time.monotonic() + within_seconds
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return False
        finally:
            os.close(pidfd)
    return True
