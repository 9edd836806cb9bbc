import errno
import io
import sys

import pytest

from p2p_keras.system.progress import ProgressLine, duration, rough_duration


@pytest.mark.parametrize(
    ("secs", "text"), [(0, "0:00"), (59.6, "1:00"), (65, "1:05"), (4000, "1:06:40"), (360000, "100:00:00")]
)
def test_duration(secs, text):
    assert duration(secs) == text


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_share_rate_and_time_left(monkeypatch):
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    ProgressLine(200, "images").update(50, "L1 0.1", rate=10.0)
    assert terminal.getvalue() == "\r\x1b[K[#####...............] 50/200  10.0 images/s  0:15 left  L1 0.1"


def test_a_file_sees_nothing(capsys):
    progress = ProgressLine(200, "images")
    progress.update(200)
    progress.clear()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_that_has_gone_ends_the_line_and_nothing_else(monkeypatch):
    tried = []

    class Gone(io.StringIO):
        def isatty(self):
            return True

        def write(self, text):
            tried.append(text)
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    line = ProgressLine(10, "images")
    line.update(10)
    line.update(10)
    line.clear()
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("secs", "text"),
    [
        *[(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (4000, "67 min"), (61000, "17 h"), (71.4 * 3600, "71 h")],
        *[(72 * 3600, "3.0 days"), (1e6, "11.6 days")],
    ],
)
def test_a_long_time_is_told_roughly(secs, text):
    assert rough_duration(secs) == text
