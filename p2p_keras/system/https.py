"""Which URLs may be fetched from, and how they are opened: https alone, but for this machine itself.

What comes by http anybody on the line can change, and a network is a program.
"""

import http.client
import ipaddress
import urllib.error
import urllib.parse
import urllib.request
from email.message import Message
from typing import IO


def is_safe(url: str) -> bool:
    """Whether a URL is of https, or of http on this machine: localhost, 127.0.0.0/8 or [::1]."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
    except ValueError:  # as of http://[::1
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_this_machine(host))


def open_url(request: urllib.request.Request, timeout: float) -> http.client.HTTPResponse:
    """`urllib.request.urlopen` for safe URLs, which follows redirects to safe URLs only.

    Raises:
        urllib.error.URLError: As `urlopen`, or it is not safe, or it redirects to where it is not.
        ValueError: The URL cannot be read.
    """
    if not is_safe(request.full_url):
        raise urllib.error.URLError("it is not https")
    # Without the proxy for http, which would carry over the line what is meant to stay on this machine.
    proxies = {scheme: proxy for scheme, proxy in urllib.request.getproxies().items() if scheme != "http"}
    opener = urllib.request.build_opener(_Redirects, urllib.request.ProxyHandler(proxies))
    return opener.open(request, timeout=timeout)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect away from https, not even to this machine."""

    def redirect_request(
        self, request: urllib.request.Request, reply: IO[bytes], code: int, reason: str, headers: Message, url: str
    ) -> urllib.request.Request | None:
        leaves = request.type == "https" and not url.lower().startswith("https:")
        if leaves or not is_safe(url):
            reply.close()
            parts = urllib.parse.urlsplit(url)
            raise urllib.error.URLError(f"it redirects to {parts.scheme}://{parts.netloc}, which is not https")
        return super().redirect_request(request, reply, code, reason, headers, url)


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # any other name
        return False
