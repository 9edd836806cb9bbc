import io

import pytest

from p2p_keras.system.terminal import PlainStream, printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b]0;title\x07a.png", r"\x1b]0;title\x07a.png"),
        ("\x1b[2J\x1b[31m", r"\x1b[2J\x1b[31m"),
        ("a\rb", r"a\rb"),
        ("\x9b31m", r"\x9b31m"),  # the same in one character
        ("gpj.\u202egnp", "gpj.\\u202egnp"),
        ("\udcff", r"\udcff"),  # a byte of a name that is no UTF-8
    ],
)
def test_what_a_terminal_would_act_upon_is_written_out(name, shown):
    assert printable(name) == shown


def test_other_text_stays():
    text = "-Jq. é 写真 \u200d\N{GRINNING FACE}\t|\\\n"
    assert printable(text) == text


def test_a_stream_writes_what_is_printable_and_is_the_stream_otherwise():
    stream = io.StringIO()
    print("a\x1bb", file=PlainStream(stream), flush=True)
    assert stream.getvalue() == "a\\x1bb\n"
    assert not PlainStream(stream).isatty()
