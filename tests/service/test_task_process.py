"""A process for each task: what it tells, how it ends, and that it never outlives its sidecar."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.sidecar_tasks import perform

from longshore.service.process import Forks, TaskProcess
from longshore.service.task import Event, Line, Outcome, Progress, Task

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def forks() -> Forks:
    made = Forks(perform, preload=("tests.support.sidecar_tasks",))
    made.prepare()
    return made


async def hear(process: TaskProcess) -> tuple[list[Event], int]:
    async with asyncio.timeout(60):
        events = [event async for event in process.events()]
        return events, await process.close()


async def run(forks: Forks, *names: str, background: bool = False) -> tuple[Outcome | None, int]:
    process = forks.start(Task("export", names, background=background))
    _, code = await hear(process)
    return process.outcome, code


async def until(found: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not found():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_events_arrive_in_order_and_the_outcome_last(forks: Forks) -> None:
    process = forks.start(Task("export", ("tell",)))
    events, code = await hear(process)

    assert [event.text for event in events if isinstance(event, Line)] == [
        f"line {number}" for number in range(50)
    ]
    assert [e.done_bytes for e in events if isinstance(e, Progress)] == list(range(50))
    assert process.outcome is not None
    assert (process.outcome.text, code) == ("tell", 0)


@pytest.mark.parametrize(("how", "code"), [("crash", 7), ("killed", -9)])
async def test_a_process_that_dies_has_no_outcome_but_a_code(
    forks: Forks, how: str, code: int
) -> None:
    assert await run(forks, how) == (None, code)


async def test_only_what_nobody_waits_for_leaves_the_processor_to_others(forks: Forks) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    waited, _ = await run(forks, "rank")
    background, _ = await run(forks, "rank", background=True)

    assert waited is not None
    assert background is not None
    assert waited.document["nice"] == ours
    assert (background.document["nice"], background.document["batch"]) == (19, True)
    assert waited.document["group"]  # the terminal's signals are not for it


def spare_of(forks: Forks) -> int:
    """Have a process wait for a task, and say which."""
    forks.prepare()
    assert forks._spare is not None
    assert forks._spare.pid is not None
    return forks._spare.pid


async def pid_of_next(forks: Forks) -> object:
    outcome, _ = await run(forks, "pid")
    assert outcome is not None
    return outcome.document["pid"]


async def test_the_process_that_waits_does_the_next_task_and_no_other(forks: Forks) -> None:
    waiting = spare_of(forks)
    assert spare_of(forks) == waiting  # one is enough

    assert await pid_of_next(forks) == waiting
    assert await pid_of_next(forks) not in (waiting, os.getpid())
    assert not is_running(waiting)


async def test_a_process_that_waited_and_was_killed_fails_no_task(forks: Forks) -> None:
    waiting = spare_of(forks)
    os.kill(waiting, signal.SIGKILL)
    await until(lambda: not is_running(waiting))

    assert await pid_of_next(forks) != waiting


async def test_memory_of_a_task_is_told_and_is_free_when_it_has_ended(forks: Forks) -> None:
    much, _ = await run(forks, "memory")
    little, _ = await run(forks, "rank")

    assert much is not None
    assert little is not None
    assert much.memory_bytes > 96 << 20
    assert little.memory_bytes < much.memory_bytes - (64 << 20)


async def test_what_is_stopped_takes_back_what_it_has_begun(forks: Forks, tmp_path: Path) -> None:
    process = forks.start(Task("export", ("work", str(tmp_path))))
    await until((tmp_path / "begun").exists)

    process.stop()
    _, code = await hear(process)
    assert process.outcome is not None
    assert (process.outcome.exit_code, code) == (143, 0)
    assert os.listdir(tmp_path) == ["taken-back"]


async def test_a_task_that_writes_slowly_does_not_hold_up_the_sidecar(forks: Forks) -> None:
    """A long document comes in pieces; a process of low rank may stop in the middle of it."""
    process = forks.start(Task("list", ("long",)))
    assert process.pid is not None
    assert process._connection.poll(30)  # it has begun to write what no buffer takes
    os.kill(process.pid, signal.SIGSTOP)
    heard = asyncio.create_task(hear(process))
    done, _ = await asyncio.wait([heard], timeout=0.05)  # the loop goes on
    assert not done
    os.kill(process.pid, signal.SIGCONT)

    await heard
    assert process.outcome is not None
    assert len(process.outcome.document["text"]) == 3 << 20


SIDECAR = """
import asyncio, sys
from tests.support.sidecar_tasks import perform
from longshore.service.process import Forks
from longshore.service.task import Task

async def main():
    forks = Forks(perform, preload=())
    process = forks.start(Task("export", tuple(sys.argv[1:])))
    forks.prepare()
    print(forks._spare.pid, flush=True)
    async for event in process.events():
        print(event.text, flush=True)

if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_a_sidecar_that_is_killed_takes_its_jobs_with_it(tmp_path: Path) -> None:
    script = tmp_path / "sidecar.py"
    script.write_text(SIDECAR)
    sidecar = subprocess.Popen(  # noqa: ASYNC220 - it is waited for in a thread
        [sys.executable, script, "work", tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/agent"},
    )
    with sidecar:
        assert sidecar.stdout is not None
        spare = int(await asyncio.to_thread(sidecar.stdout.readline))
        job = int(await asyncio.to_thread(sidecar.stdout.readline))
        assert is_running(job)
        assert is_running(spare)

        sidecar.kill()
        await until(lambda: not is_running(job) and not is_running(spare))
    assert (tmp_path / "taken-back").exists()
