"""The address at which the page is shown, who may ask for it, and for what. No gradio, no TensorFlow."""

import ipaddress
import re
import socket
import urllib.parse
from collections.abc import Callable

from p2p_keras.errors import UserError
from p2p_keras.system.limits import MAX_REQUEST_BYTES, MAX_UPLOAD_BYTES

# What a browser may load for the page: nothing of other hosts. gradio builds its page by scripts within it.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'"
# What a browser asks for the page. gradio answers much more: it converts videos by ffmpeg, which reads what files they
# name, keeps what is sent to a component in memory, and writes the app anew where it was told to.
_PATHS = re.compile(
    r"/(config|theme\.css|favicon\.ico|manifest\.json|(assets|static)/.{1,200}|gradio_api/(app_id|startup-events|upload|"
    r"upload_progress|queue/(join|data)|run/predict|heartbeat/[^/]*|file=.*))?"
)


def listen(host: str, port: int) -> socket.socket:
    """Takes an address, before anything slow is loaded.

    Args:
        host: A name or an address of this machine.
        port: 0 takes any that is free.

    Raises:
        UserError: It cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = str(error.strerror).partition(" (")[0]  # Python adds the address
        raise UserError(
            f"--host and --port are an address of this machine that is free. {host}:{port} is not: {why}. "
            "Take another --port, or 0 for any."
        ) from error


def address(listening: socket.socket) -> str:
    """What is typed into a browser on this machine."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def is_loopback(listening: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def for_this_machine(app: Callable) -> Callable:
    """The same ASGI application, for browsers that mean this machine: others are answered with status 403.

    A site that somebody here visits can send requests to 127.0.0.1, too: as itself, which the browser says in `Origin`,
    or by a name of its own that leads to 127.0.0.1 (DNS rebinding), which is then the `Host`. Any port will do, since
    the page may be forwarded (`ssh -L`).
    """

    async def answer(scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] == "http":
            said = [(name, value.decode("latin-1")) for name, value in scope["headers"]]
            hosts = [_host(f"//{value}") for name, value in said if name == b"host"]
            origins = [_host(value) for name, value in said if name == b"origin"]
            if not hosts or not all(map(_is_this_machine, hosts + origins)):
                await _refuse(send, 403, "This page is for this machine's browsers alone.")
                return
        await app(scope, receive, send)

    return answer


def nothing_else(app: Callable) -> Callable:
    """The same ASGI application, but any path other than `_PATHS` is answered with status 404."""

    async def answer(scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] == "http" and not _PATHS.fullmatch(scope["path"]):
            await _refuse(send, 404, "There is nothing here.")
            return
        await app(scope, receive, send)

    return answer


def with_small_requests(app: Callable) -> Callable:
    """The same ASGI application, but requests of over `MAX_REQUEST_BYTES` are answered with status 413.

    An upload may be larger by one file. gradio writes its files to disk, and keeps what else it holds in memory. One
    that says less than it has is cut off.
    """

    async def answer(scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        if scope["path"] == "/gradio_api/upload":
            left = MAX_UPLOAD_BYTES + MAX_REQUEST_BYTES
            said = dict(scope["headers"]).get(b"content-length", b"0")
            if not said.isdigit() or int(said) > left:
                await _refuse(send, 413, "This is too large.")
                return

            async def receive_some() -> dict:
                nonlocal left
                event = await receive()
                left -= len(event.get("body", b""))
                return event if left >= 0 else {"type": "http.disconnect"}

            await app(scope, receive_some, send)
            return
        body, more = b"", True
        while more and len(body) <= MAX_REQUEST_BYTES:
            event = await receive()
            if event["type"] != "http.request":  # whoever asked has gone
                return
            body, more = body + event.get("body", b""), event.get("more_body", False)
        if len(body) > MAX_REQUEST_BYTES:
            await _refuse(send, 413, "This is too large.")
            return
        read = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> dict:
            return read.pop() if read else await receive()

        await app(scope, receive_again, send)

    return answer


def sealed(app: Callable) -> Callable:
    """The same ASGI application, with `POLICY` on all that it answers."""

    async def answer(scope: dict, receive: Callable, send: Callable) -> None:
        async def send_sealed(event: dict) -> None:
            if event["type"] == "http.response.start":
                event = {**event, "headers": [*event["headers"], (b"content-security-policy", POLICY.encode())]}
            await send(event)

        await app(scope, receive, send_sealed)

    return answer


async def _refuse(send: Callable, status: int, why: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{why}\n".encode()})


def _host(url: str) -> str:
    """The host that a URL names; empty if there is none."""
    try:
        return urllib.parse.urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
