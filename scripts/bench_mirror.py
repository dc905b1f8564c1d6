"""A mirror of packages for builds, on loopback: an HTTP proxy that has all it is asked for.

A build is told of it by `http_proxy`, which is no part of any step's cache key.
"""

from __future__ import annotations

import http.server
import threading
from pathlib import Path
from typing import Self


class Mirror:
    """Serves `http://mirror/NAME` from `NAME/tree.tar` of a folder."""

    def __init__(self, folder: Path) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                file = folder / Path(self.path).name / "tree.tar"
                if not file.is_file():
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(file.stat().st_size))
                self.end_headers()
                with file.open("rb") as source:
                    self.wfile.flush()
                    self.connection.sendfile(source)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()
