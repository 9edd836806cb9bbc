"""Serves the page of runs that are training, on this machine alone; the page asks for what is new."""

import hashlib
import http.server
import sys
import threading
from collections.abc import Callable

from p2p_keras.errors import UserError

ADDRESS = "127.0.0.1"


def make_server(
    port: int, state: Callable[[], str], make: Callable[[str], bytes], report: Callable[[str], None] = print
) -> http.server.ThreadingHTTPServer:
    """Makes a server that answers `/` with the page and `/version` with what it would show now.

    The page is made when it is asked for, and again only when the state has changed.

    Args:
        port: On 127.0.0.1; 0 takes a free one, which `server_port` tells.
        state: A text that is another one when the page would be.
        make: Version -> the page.
        report: Called with one line when the page cannot be made.

    Raises:
        UserError: The port is taken.
    """
    lock = threading.Lock()
    made: dict[str, bytes] = {}

    def version() -> str:
        return hashlib.sha256(state().encode(errors="surrogateescape")).hexdigest()[:16]

    def page() -> bytes:
        with lock:  # whoever comes second gets what the first one made
            current = version()
            if current not in made:
                content = make(current)
                made.clear()
                made[current] = content
            return made[current]

    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers GET, of callers who mean this very server."""

        def do_GET(self) -> None:
            own = {f"{name}:{self.server.server_port}" for name in (ADDRESS, "localhost")}
            if self.headers.get("Host") not in own:  # a page of another site, whose name leads here
                self._answer(403, "text/plain; charset=utf-8", b"This server is for 127.0.0.1 alone.\n")
                return
            try:
                if self.path == "/":
                    self._answer(200, "text/html; charset=utf-8", page())
                elif self.path == "/version":
                    self._answer(200, "text/plain; charset=utf-8", version().encode())
                else:
                    self._answer(404, "text/plain; charset=utf-8", b"There is nothing but / here.\n")
            except (UserError, OSError) as error:
                if isinstance(error, ConnectionError):
                    raise
                report(f"The page cannot be made now: {error}")
                self._answer(503, "text/plain; charset=utf-8", f"{error}\n".encode(errors="backslashreplace"))

        def _answer(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Keeps the terminal quiet."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Keeps quiet when a browser has closed its connection early."""
            if not isinstance(sys.exc_info()[1], ConnectionError):
                super().handle_error(request, client_address)

    try:
        return Server((ADDRESS, port), Handler)
    except (OSError, OverflowError) as error:
        raise UserError(f"--port={port} cannot be had on {ADDRESS}: {error}. Take another one, as --port=0.") from error
