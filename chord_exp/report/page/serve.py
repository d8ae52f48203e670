"""Show a page to browsers of this machine while its runs go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from chord_exp.errors import ConfigError

HOST = "127.0.0.1"
# as a browser may call this machine; another name leads here only by a trick
NAMES = (HOST, "localhost")


@contextmanager
def serving(page: Path, port: int) -> Iterator[str]:
    """Answer on loopback with one file, read anew each time; yields its address.

    Args:
        port: 0 for any that is free.

    Raises:
        ConfigError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Host", "").rpartition(":")[0] not in NAMES:
                self.send_error(403)
            elif self.path != "/":
                self.send_error(404)
            else:
                content = page.read_bytes()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Print nothing."""

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"port {port} cannot be used: {error}", "--serve", "give another port") from error
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{HOST}:{server.server_port}/"
        finally:
            server.shutdown()
