"""How the sidecar paces itself, and how long others wait for it."""

from __future__ import annotations

from datetime import timedelta

# The engine's events come in bursts: a build gives several tags, Compose builds several services.
WATCH_QUIET = timedelta(seconds=2)
WATCH_LONGEST = timedelta(seconds=10)  # after the first, however many follow
# Not every build is told of; a look is one request an image.
WATCH_LOOK_EVERY = timedelta(seconds=30)
# At the end, for each answer of the engine. One that works needs milliseconds, but a busy one may
# need longer, and something may have been built; `docker stop` waits 10 s for us.
WATCH_LAST_ANSWER = timedelta(seconds=5)
RECONNECT_BASE = timedelta(milliseconds=500)
RECONNECT_CAP = timedelta(seconds=10)  # an engine's first build is hardly done sooner
SOCKET_TIMEOUT = timedelta(seconds=30)  # until a sidecar that is being started has its socket
ASK_TIMEOUT = timedelta(minutes=2)  # of what the page and others ask of the sidecar
