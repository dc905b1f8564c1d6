"""Certificates that nobody uses, and that need not be read when a command starts."""

from __future__ import annotations

import ssl
import sys
import threading
from typing import Any


def import_without_certificates() -> None:
    """Import aiohttp without the machine's certificates, which it would read twice.

    They are for connections that come without any of their own. The SDK's never do (aiobotocore
    3.10, `AIOHTTPSession._build_verify_context`); another one trusts nobody then. It takes a tenth
    of the time in which an export starts.
    """
    if "aiohttp" in sys.modules:
        return
    mine = threading.get_ident()
    methods = ("load_default_certs", "set_default_verify_paths")
    before = {name: getattr(ssl.SSLContext, name) for name in methods}
    own = {name: name in vars(ssl.SSLContext) for name in methods}

    def unless_here(name: str) -> Any:
        def load(context: ssl.SSLContext, *arguments: Any) -> None:
            if threading.get_ident() != mine:  # the engine may be reached over TLS meanwhile
                before[name](context, *arguments)

        return load

    try:
        for name in methods:
            setattr(ssl.SSLContext, name, unless_here(name))
        import aiohttp  # noqa: F401 - that is all
    finally:
        for name in methods:
            if own[name]:
                setattr(ssl.SSLContext, name, before[name])
            else:
                delattr(ssl.SSLContext, name)
