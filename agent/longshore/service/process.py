"""A process for each task, forked from one that has everything imported already.

A process has its own memory, which is free when it ends, and its own priority. It hears nothing of
the terminal's signals: what becomes of it is the sidecar's decision, and if the sidecar is killed,
it stops as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import resource
import signal
import threading
import time
import traceback
from collections.abc import AsyncIterator, Iterable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

from longshore.config_secrets import hider
from longshore.progress import one_line
from longshore.service.log import Level
from longshore.service.python_logging import libraries_heard
from longshore.service.task import Event, Line, Outcome, Perform, Task

CRASHED = 1
_NICE = 19  # the least that there is
_ORPHAN_SECONDS = 30.0  # for what a task has begun to be taken back, if nobody waits for it


class Forks:
    """Starts processes for tasks.

    Args:
        perform: does a task.
        preload: modules that are imported once, and not in each process.
    """

    def __init__(self, perform: Perform, *, preload: Iterable[str]) -> None:
        self._perform = perform
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._spare: TaskProcess | None = None
        self._preparing = threading.Lock()

    def prepare(self) -> None:
        """Have a process wait for the next task; blocks, the first time for a second or so."""
        with self._preparing:
            if self._spare is None:
                self._spare = self._fork()

    def start(self, task: Task) -> TaskProcess:
        """Give a task to the process that waits for one, or to a new one; blocks for that long."""
        with self._preparing:
            process, self._spare = self._spare, None
        if process is not None:
            with contextlib.suppress(OSError):  # somebody has ended it
                process.give(task)
                return process
            process.drop()
        process = self._fork()
        process.give(task)
        return process

    def _fork(self) -> TaskProcess:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_run, args=(self._perform, theirs), daemon=True)
        try:
            process.start()
        finally:
            theirs.close()
        return TaskProcess(process, ours)


class TaskProcess:
    """The process of one task, as the sidecar sees it."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self._process = process
        self._connection = connection
        self._listener: threading.Thread | None = None
        self.outcome: Outcome | None = None

    @property
    def pid(self) -> int | None:
        """Its number."""
        return self._process.pid

    def give(self, task: Task) -> None:
        """Have it do a task, its only one.

        Raises:
            OSError: it is not there any more.
        """
        self._connection.send(task)

    async def events(self) -> AsyncIterator[Event]:
        """Hear what it tells, until it has ended; then `outcome` is set, unless it crashed."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[Event | Outcome | None] = asyncio.Queue()

        def listen() -> None:
            """Read in a thread: what is long comes as slowly as a process of low rank writes it."""
            message: Event | Outcome | None
            while True:
                try:
                    message = self._connection.recv()
                except (EOFError, OSError):
                    message = None
                try:
                    loop.call_soon_threadsafe(heard.put_nowait, message)
                except RuntimeError:  # the loop is closed: nobody wants to know any more
                    return
                if message is None:
                    return

        self._listener = threading.Thread(target=listen, name="events", daemon=True)
        self._listener.start()
        while (message := await heard.get()) is not None:
            if isinstance(message, Outcome):
                self.outcome = message
            else:
                yield message

    def stop(self) -> None:
        """Ask it to clean up and end; the second time it ends at once."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as it is."""
        self._signal(signal.SIGKILL)

    async def close(self) -> int:
        """Wait until it is gone, and say how it ended: its exit code, or less a signal's number."""
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        loop.add_reader(self._process.sentinel, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()
        code = self._process.exitcode
        self._process.close()
        if self._listener is not None:  # it hears the end at once, as the other side is gone
            await asyncio.to_thread(self._listener.join)
        self._connection.close()
        return CRASHED if code is None else code

    def drop(self) -> None:
        """Let it go, as it was given nothing to do."""
        self._connection.close()
        self._process.join()
        self._process.close()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, ValueError):
            if self._process.pid is not None and self._process.is_alive():
                os.kill(self._process.pid, number)


def _run(perform: Perform, connection: Connection) -> None:
    """Be the process of a task, which comes some time."""
    os.setsid()
    try:
        task: Task = connection.recv()
    except (EOFError, OSError):
        os._exit(0)  # there will be none
    if task.background:
        _step_back()
    threading.Thread(target=_end_with_sidecar, args=(connection,), daemon=True).start()
    sending = threading.Lock()

    def tell(event: Event | Outcome) -> None:
        with sending, contextlib.suppress(OSError):  # nobody listens any more
            connection.send(event)

    hide = hider(os.environ)

    def heard(level: Level, name: str, text: str, trace: str) -> None:
        tell(Line(one_line(hide(f"{name}: {text}")), "" if level == "info" else level, trace))

    code = 0
    with libraries_heard(heard):
        try:
            tell(perform(task, tell))
        except Exception as error:
            text = one_line(hide(f"this is a bug in longshore: {type(error).__name__}: {error}"))
            tell(Line(text, "error", traceback.format_exc()))
            code = CRASHED
        # As `main` does: a thread may hang in a dead engine, and Python would wait for it.
        connection.close()
        os._exit(code)


def _step_back() -> None:
    """Leave the processor to whoever else wants it."""
    os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _end_with_sidecar(connection: Connection) -> None:
    """Stop when the sidecar is gone; and if that takes too long, end."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()  # nothing ever comes
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_ORPHAN_SECONDS)
    os._exit(CRASHED)


def peak_memory_bytes() -> int:
    """Tell the most memory that this process held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
