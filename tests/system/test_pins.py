import json
import threading

import pytest

from p2p_keras.errors import UserError
from p2p_keras.system import pins

ONE, OTHER = "1" * 64, "2" * 64


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "p2p_keras"


def test_the_first_sum_is_recorded_and_later_ones_are_compared_with_it(cache):
    pins.record("https://a.example/net", ONE, "network")
    pins.record("facades", OTHER, "data set")
    assert json.loads((cache / "checksums.json").read_text()) == {"facades": OTHER, "https://a.example/net": ONE}
    pins.record("facades", OTHER, "data set")
    pins.compare("facades", OTHER, "data set")
    for check in (pins.record, pins.compare):
        with pytest.raises(UserError) as raised:
            check("https://a.example/net", OTHER, "network")
        assert str(raised.value) == (
            "A network must stay what it was when it was fetched first, but https://a.example/net has changed: its "
            f"sha256 was 111111111111 and is 222222222222. If you want the change, remove "
            f'"https://a.example/net" from {cache}/checksums.json, then the new one is recorded.'
        )
    assert json.loads((cache / "checksums.json").read_text())["https://a.example/net"] == ONE


def test_to_compare_writes_nothing(cache):
    pins.compare("facades", ONE, "data set")
    assert not cache.exists()


def test_a_record_that_cannot_be_read_is_an_error_and_not_a_fresh_start(cache):
    cache.mkdir()
    for text in ("", "[1]", '{"facades": 1}', '{"facades": "11",}'):
        (cache / "checksums.json").write_text(text)
        for check in (pins.record, pins.compare):
            with pytest.raises(UserError, match=rf"names and sha256 sums in JSON. {cache}/checksums.json .* remove it"):
                check("facades", ONE, "data set")
        assert (cache / "checksums.json").read_text() == text


def test_many_at_once_lose_no_entry(cache):
    threads = [threading.Thread(target=pins.record, args=(f"{i}", ONE, "thing")) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads((cache / "checksums.json").read_text())) == 16
    assert [path.name for path in cache.iterdir()] == ["checksums.json"]
