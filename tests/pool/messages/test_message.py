"""What others chose does nothing in a mail reader or a chat, and is short."""

import string

import pytest

from pool.messages.message import NAME_CHARS_MAX, plain


@pytest.mark.parametrize(
    ("chosen", "shown"),
    [
        ("acme.c07", "acme.c07"),
        ("контейнер-7", "контейнер-7"),
        ("<!channel>", "??channel?"),
        ("@everyone", "?everyone"),
        ("c\r\nSubject: paid", "c??Subject: paid"),
        ("[paid](https://evil.example)", "?paid?(https://evil.example)"),
        ("<b onload=x>", "?b onload=x?"),
        ("`*_~|", "??_??"),
        ("\u202egnp.exe", "?gnp.exe"),
        ("x" * 70, "x" * 61 + "..."),
    ],
)
def test_a_name_has_no_mark_that_means_something(chosen: str, shown: str) -> None:
    assert plain(chosen) == shown


def test_of_ascii_these_are_left() -> None:
    every = "".join(map(chr, range(128)))
    left = {it for it in plain(every, 128) if it != "?"}
    assert "".join(sorted(left - set(string.ascii_letters + string.digits))) == " '()+,-./:=_"
    assert len(plain("é" * 1000)) == NAME_CHARS_MAX
