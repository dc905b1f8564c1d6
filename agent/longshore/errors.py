"""Everything longshore raises on purpose.

    LongshoreError                  exit
    ├── UsageError                     2   wrong usage, configuration or services file
    ├── OtherSettings                  2   a sidecar was asked for what it was not set up for
    ├── NotCached                      3   there is no usable entry: a normal miss
    │   ├── UnsupportedFormat          3   written by a newer longshore; upgrade, do not delete
    │   ├── NotTrusted                 3   no trusted key signed it
    │   └── TooLarge                   3   more than this run is to take; an option raises that
    ├── NotBuilt                       3   a named service or image does not exist
    ├── CorruptData                    4   stored bytes do not match their digest or format
    │   ├── ObjectMissing              4   an object that is needed is not in the store
    │   └── ObjectTooLarge             4   an object is larger than any of its kind; it was not read
    ├── StoreError                     6   the store refused or failed; a retry will not help
    │   ├── AccessDenied               6   credentials are wrong, expired or too narrow
    │   └── StoreUnavailable           6   may succeed on retry
    ├── EngineError                    9   the Docker engine refused or failed
    │   ├── EngineUnavailable          9   it cannot be reached
    │   ├── LayerVanished              9   a layer that it had is gone; a full load will do
    │   └── NotOnDisk                  9   its disk does not give what is wanted; a save will do
    ├── SidecarUnavailable             9   no sidecar answers, or it did not do what it took in
    └── TimedOut                       6   the whole command took longer than --timeout

`str(error)` is one line for people: what happened, to what, what to do next. Anything else that
escapes is a bug: it exits 1 with a traceback.
"""

from __future__ import annotations

from typing import TypeVar

E = TypeVar("E", bound=BaseException)


class LongshoreError(Exception):
    """The base of all errors that longshore raises on purpose."""

    exit_code = 1


class UsageError(LongshoreError):
    """The caller asked for something impossible, or the configuration cannot be read."""

    exit_code = 2


class OtherSettings(LongshoreError):
    """A sidecar was asked for what it was not set up for: another project, scope or store."""

    exit_code = 2


class NotCached(LongshoreError):
    """There is no usable entry: the normal cache miss."""

    exit_code = 3


class UnsupportedFormat(NotCached):
    """A document was written by a newer longshore, and must be kept."""


class NotTrusted(NotCached):
    """No trusted key signed an entry, so it does not count."""


class TooLarge(NotCached):
    """What is cached is more than this run is to take: of memory, or of the engine's disk."""


class NotBuilt(LongshoreError):
    """A service or image that was named does not exist."""

    exit_code = 3


class CorruptData(LongshoreError):
    """Stored bytes do not match their digest or their format."""

    exit_code = 4


class ObjectMissing(CorruptData):
    """An object that is needed is not in the store."""


class ObjectTooLarge(CorruptData):
    """An object is larger than its reader allows, and has not been read."""


class StoreError(LongshoreError):
    """The store refused or failed, and asking again will not help."""

    exit_code = 6


class AccessDenied(StoreError):
    """The store refused the credentials: wrong, expired, or too narrow."""


class StoreUnavailable(StoreError):
    """The store did not answer, or asked to be asked later; a retry may succeed."""


class TimedOut(LongshoreError):
    """The command took longer than its limit."""

    exit_code = 6


class SidecarUnavailable(LongshoreError):
    """No sidecar answers at its socket, or it did not do what it took in."""

    exit_code = 9


class EngineError(LongshoreError):
    """The Docker engine refused or failed."""

    exit_code = 9


class EngineUnavailable(EngineError):
    """The Docker engine cannot be reached."""


class LayerVanished(EngineError):
    """A layer that the engine had when it was asked is gone; a load in full will do."""


class NotOnDisk(EngineError):
    """Something cannot be read from the engine's disk, or is not what it has to be."""


def kept(error: E) -> E:
    """Prepare an error for being kept: forget how it came about.

    A traceback holds every frame, and a frame all that it worked on, such as a whole document.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error
