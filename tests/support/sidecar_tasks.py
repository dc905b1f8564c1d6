"""What the processes of test jobs do: functions that another process finds by their names."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from longshore.cli_running import Interrupted, run
from longshore.service.process import peak_memory_bytes
from longshore.service.task import Line, Outcome, Progress, Task, Tell


def perform(task: Task, tell: Tell) -> Outcome:
    """Do what the first name of a task says; the second one is a folder to leave traces in."""
    what, *rest = task.names
    folder = Path(rest[0]) if rest else Path()
    document: dict[str, object] = {"error": None}
    code = 0
    if what == "tell":
        for number in range(50):
            tell(Line(f"line {number}"))
            tell(Progress("downloading", number, 50, 0.1))
    elif what == "crash":
        os._exit(7)
    elif what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "rank":
        document["nice"] = os.getpriority(os.PRIO_PROCESS, 0)
        document["batch"] = os.sched_getscheduler(0) == os.SCHED_BATCH
        document["group"] = os.getpgid(0) == os.getpid()
    elif what == "pid":
        document["pid"] = os.getpid()
    elif what == "memory":
        document["bytes"] = len(bytearray(os.urandom(1) * (96 << 20)))
    elif what == "long":
        document["text"] = "x" * (3 << 20)
    elif what == "work":
        try:
            run(_work(folder, tell), timeout=None, command="export")
        except Interrupted as stopped:
            code = 128 + stopped.number
    elif what == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tell(Line(str(os.getpid())))
        while True:
            time.sleep(60)
    return Outcome(code, what, document, peak_memory_bytes())


async def _work(folder: Path, tell: Tell) -> None:
    """Begin something, and take it back if it is not to be ended."""
    begun = folder / "begun"
    begun.write_text(str(os.getpid()))
    tell(Line(str(os.getpid())))
    try:
        await asyncio.Event().wait()
    finally:
        begun.unlink()
        (folder / "taken-back").touch()
