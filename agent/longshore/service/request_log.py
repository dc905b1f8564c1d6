"""What the log says of HTTP requests, and the id by which one finds them there."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from longshore.service.log import REQUEST, Log, Value

HEADER = "X-Request-Id"
REQUEST_ID = web.RequestKey("request_id", str)
"""The key of a request under which handlers find its id."""
_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=+/@-]{0,127}")
_BUG = 500
# Not to be ready yet is an answer, and asked for once a second.
_NO_ERRORS = frozenset({("/readyz", 503)})
_STARTED = web.RequestKey("started", web.StreamResponse)


def log_requests(
    app: web.Application,
    log: Log,
    *,
    make_id: Callable[[], str],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Have `app` give each request an id, and write down what fails; all requests if verbose.

    What a handler lets escape is a bug: it is written down with the id, and the client gets the id.
    Paths are written down, and queries are not.

    Args:
        make_id: makes an id for a request that has none, or a strange one.
        clock: a clock of seconds that never goes back.
    """

    @web.middleware
    async def logged(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get(HEADER, "")
        identifier = given if _SANE.fullmatch(given) else make_id()
        request[REQUEST_ID] = identifier
        began = clock()
        token = REQUEST.set(identifier)
        try:
            response = await handler(request)
            _write_down(log, request, response.status, clock() - began)
            return response
        except web.HTTPException as answer:
            _write_down(log, request, answer.status, clock() - began)
            raise
        except ConnectionError:  # the client has gone; aiohttp knows what to do
            _write_down(log, request, None, clock() - began)
            raise
        except Exception as error:
            _write_down(log, request, _BUG, clock() - began, error)
            return _failed(request, identifier)
        finally:
            REQUEST.reset(token)

    async def echo(request: web.Request, response: web.StreamResponse) -> None:
        request[_STARTED] = response
        response.headers[HEADER] = request.get(REQUEST_ID, "")

    app.middlewares.insert(0, logged)
    app.on_response_prepare.append(echo)


def _write_down(
    log: Log,
    request: web.Request,
    status: int | None,
    seconds: float,
    error: Exception | None = None,
) -> None:
    path = request.path
    failed = status is not None and status >= _BUG and (path, status) not in _NO_ERRORS
    if not failed and not log.verbose:
        return
    text = f"{request.method} {path} {status or '(the client has gone)'} in {1000 * seconds:.0f} ms"
    fields: dict[str, Value] = {
        "method": request.method,
        "path": path,
        "status": status,
        "seconds": seconds,
    }
    if error is None:
        log.say("error" if failed else "info", text, fields)
    else:
        trace = "".join(traceback.format_exception(error))
        log.say("error", f"{text}: {type(error).__name__}: {error}", fields, trace)


def _failed(request: web.Request, identifier: str) -> web.StreamResponse:
    started: web.StreamResponse | None = request.get(_STARTED)
    if started is not None:
        # It is too late for another answer, and this one must not seem to be complete.
        if request.transport is not None:
            request.transport.abort()
        return started
    message = f"this is a bug in longshore; its log says more about request {identifier}"
    document = {"schema": 1, "error": {"message": message}, "request_id": identifier}
    return web.json_response(document, status=_BUG)
