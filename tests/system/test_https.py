import urllib.error
import urllib.request

import pytest
from conftest import Page, Redirect

from p2p_keras.system import https


def read(url):
    with https.open_url(urllib.request.Request(url), timeout=5) as reply:
        return reply.read()


SAFE = """https://a.example/x HTTPS://a.example http://localhost:8080/x http://LOCALHOST/ http://127.0.0.1/
    http://127.9.8.7:1/ http://[::1]:80/x"""
OTHERS = """http://a.example/x http://127.0.0.1.example/ http://localhost.example/ http://localhost@a.example/
    http://0.0.0.0/ http://10.0.0.1/ http://[fe80::1]/ http://127.1/ http:// http://[::1 ftp://a.example/
    ftp://localhost/ file:///etc/passwd data:,x net.tgz"""


@pytest.mark.parametrize("url", SAFE.split())
def test_https_and_this_machine_are_safe(url):
    assert https.is_safe(url)


@pytest.mark.parametrize("url", ["", *OTHERS.split()])
def test_anything_else_is_not(url):
    assert not https.is_safe(url)


def test_what_is_not_safe_is_not_opened(server):
    server.pages["/net"] = Page(b"graph")
    with pytest.raises(urllib.error.URLError, match="it is not https"):
        read(f"http://0.0.0.0:{server.server_port}/net")  # an address of this machine too, but of its network's side
    assert server.asked == []


def test_a_redirect_on_this_machine_is_followed(server):
    server.pages.update({"/old": Redirect("/new"), "/new": Page(b"graph")})
    assert read(f"{server.url}/old") == b"graph"


def test_a_redirect_to_plain_http_is_refused(server):
    server.pages.update({"/old": Redirect(f"http://0.0.0.0:{server.server_port}/new"), "/new": Page(b"graph")})
    with pytest.raises(urllib.error.URLError, match=r"it redirects to http://0\.0\.0\.0:\d+, which is not https"):
        read(f"{server.url}/old")
    assert server.asked == ["/old"]


@pytest.mark.parametrize("target", ["http://a.example/x", "http://127.0.0.1/x", "ftp://a.example/x"])
def test_no_redirect_leads_away_from_https(target):
    """Not even to this machine: whoever answers may not choose what runs here for another's reply."""
    request = urllib.request.Request("https://a.example/x")
    reply = urllib.request.addinfourl(open("/dev/null", "rb"), {}, request.full_url)  # noqa: SIM115
    with pytest.raises(urllib.error.URLError, match="which is not https"):
        https._Redirects().redirect_request(request, reply, 302, "Found", {}, target)
    assert reply.closed


def test_a_redirect_from_https_to_https_is_followed():
    request = urllib.request.Request("https://a.example/x")
    new = https._Redirects().redirect_request(request, None, 302, "Found", {}, "https://b.example/y")
    assert new.full_url == "https://b.example/y"


def test_no_proxy_sees_what_stays_on_this_machine(server, monkeypatch):
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server.pages["/net"] = Page(b"graph")
    assert read(f"{server.url}/net") == b"graph"
