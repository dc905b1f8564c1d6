"""How a use case tells what it is doing; `output.py` and the sidecar listen."""

from __future__ import annotations

from longshore.errors import LongshoreError


class Report:
    """A listener that ignores everything; the others override what they show."""

    def line(self, text: str) -> None:
        """Say what has been done or found: one line."""

    def warn(self, error: LongshoreError, text: str | None = None) -> None:
        """Say what went wrong without ending the work; `--strict` makes it the exit code."""

    def begin(self, what: str, total_bytes: int | None) -> None:
        """Begin a long step."""

    def advance(self, done_bytes: int) -> None:
        """Tell progress of the long step."""

    def end(self) -> None:
        """End the long step."""
