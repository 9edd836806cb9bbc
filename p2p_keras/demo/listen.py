"""The address at which the page is shown. No gradio, no TensorFlow."""

import socket

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
