"""What a stranger's XML may be: libxml2 ends the process for less."""

import pytest

from pool.power.signals.openadr_xml import DEPTH_MAX, BadXml, check_xml

BOMB = '<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;">]><x>&b;</x>'
EVENT = '<oadrPayload xmlns="http://openadr.org/oadr-2.0b/2012/07"><a><!-- ok --><b>ä</b></a></oadrPayload>'


def in_encoding(name: str, text: str = BOMB) -> bytes:
    return f'<?xml version="1.0" encoding="{name}"?>{text}'.encode(name)


@pytest.mark.parametrize(
    "body",
    [EVENT.encode(), b'<?xml version="1.0"?>\n' + EVENT.encode(), in_encoding("utf-8", EVENT)],
)
def test_what_a_grid_sends_is_read(body: bytes) -> None:
    check_xml(body)


@pytest.mark.parametrize(
    "body",
    [
        BOMB.encode(),
        in_encoding("utf-8"),
        b"\xef\xbb\xbf" + BOMB.encode(),
        *[in_encoding(it) for it in ("utf-16", "utf-16-le", "utf-32", "iso-8859-1", "cp037", "cp500")],
        b'<?xml version="1.0" encoding="UTF-7"?>' + BOMB.replace("<!D", "+ADw-!D").encode(),
        b'<?xml version="1.0" encoding="UTF-7"?><x/>',
        b"<!DOCTYPE x SYSTEM 'http://127.0.0.1/x.dtd'><x/>",
        b"<x>" * (DEPTH_MAX + 1) + b"</x>" * (DEPTH_MAX + 1),
        b"<x>",
        b"\xff<x/>",
        b"",
    ],
)
def test_what_declares_entities_or_may_hide_that_is_never_given_to_libxml2(body: bytes) -> None:
    with pytest.raises(BadXml) as found:
        check_xml(body)
    assert str(found.value)
