"""What `wait` does: hold up a build script until the sidecar says that it may go on."""

from __future__ import annotations

import math
import time
from typing import Any

from longshore.cli_job import Finished, Shown, document_of, say_stopped, settings_for, show
from longshore.cli_running import Interrupted
from longshore.cli_sidecar import Lost, Sidecar
from longshore.cli_stopping import Stopping
from longshore.config import Settings
from longshore.config_layers import Flags
from longshore.config_sidecar import SOCKET_TIMEOUT
from longshore.errors import LongshoreError, SidecarUnavailable, TimedOut
from longshore.progress import make_report
from longshore.surroundings import World
from longshore.wording import clean, exact

_HELD_SECONDS = 30  # a request that the sidecar answers when there is something to say
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5


def wait(world: World, flags: Flags) -> int:
    """Wait for the sidecar, and return the exit code."""
    report = make_report(world, quiet=bool(flags.get("quiet")))
    settings: Settings | None = None
    failure: LongshoreError | None = None
    found: dict[str, Any] = {"ready": None, "reason": ""}
    try:
        settings = settings_for(world, flags, "wait")
        sidecar = Sidecar(world.directory / settings.socket)
        with Stopping():
            found = _is_alive(sidecar) if settings.live else _wait_for(sidecar, settings)
    except Interrupted as stopped:
        return say_stopped(report, stopped, "wait")
    except LongshoreError as error:
        failure = error
        report.fail(error)
    code = 0 if failure is None else failure.exit_code
    if settings is None:
        return code
    shown = Shown("" if failure else clean(str(found["reason"])), {})
    document = document_of("wait", found, report, failure, code)
    return show(world, settings, report, Finished(code, shown, document))


def _is_alive(sidecar: Sidecar) -> dict[str, Any]:
    try:
        status, _ = sidecar.ask("GET", "/healthz")
    except Lost as error:
        raise _nobody(sidecar, error) from error
    if status != 200:
        raise SidecarUnavailable(f"what answers at {sidecar.path} is no sidecar: status {status}")
    return {"ready": None, "reason": "it lives"}


def _wait_for(sidecar: Sidecar, settings: Settings) -> dict[str, Any]:
    end = time.monotonic() + settings.timeout.total_seconds()
    missed: float | None = None
    pause = _FIRST_PAUSE
    while True:
        left = end - time.monotonic()
        if left <= 0:
            raise TimedOut(
                f"the sidecar was not ready within {exact(settings.timeout)};"
                " if the import needs longer, raise --timeout"
            )
        held = min(_HELD_SECONDS, math.ceil(left))
        try:
            status, document = sidecar.ask(
                "GET", f"/readyz?wait={held}", seconds=min(left, held + 20)
            )
        except Lost as error:
            missed = missed or time.monotonic()
            if time.monotonic() - missed >= SOCKET_TIMEOUT.total_seconds():
                raise _nobody(sidecar, error) from error
            time.sleep(min(pause, max(left, 0)))
            pause = min(2 * pause, _LONGEST_PAUSE)
            continue
        missed, pause = None, _FIRST_PAUSE
        reason = clean(str(document.get("reason", f"status {status}")))
        if status == 200:
            return {"ready": True, "reason": reason}
        if status != 503:
            raise SidecarUnavailable(f"what answers at {sidecar.path} is no sidecar: {reason}")
        if document.get("ending"):
            raise SidecarUnavailable(f"the sidecar at {sidecar.path} is ending")
        time.sleep(min(left, pause))


def _nobody(sidecar: Sidecar, error: Lost) -> SidecarUnavailable:
    return SidecarUnavailable(
        f"no sidecar answers at {sidecar.path} ({error}); start one with `longshore serve`"
    )
