"""The address at which the page is shown, and who may ask for it. No gradio, no TensorFlow."""

import ipaddress
import socket
import urllib.parse
from collections.abc import Callable

from p2p_keras.errors import UserError


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
                headers = [(b"content-type", b"text/plain; charset=utf-8")]
                await send({"type": "http.response.start", "status": 403, "headers": headers})
                await send({"type": "http.response.body", "body": b"This page is for this machine's browsers alone.\n"})
                return
        await app(scope, receive, send)

    return answer


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
