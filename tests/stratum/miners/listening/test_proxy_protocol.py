"""PROXY headers of version 1 and 2 as bytes: what they say, and every way in which they can be wrong."""

import ipaddress
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum.miners.listening.proxy_protocol import (
    HEADER_BYTES_MAX,
    V1_BYTES_MAX,
    BadProxyHeader,
    ProxyHeader,
    parse_proxy_header,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
BEHIND = b'{"id":1,"method":"mining.subscribe","params":[]}\n'


def v2(command: int, family: int, body: bytes, *, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


PORTS = struct.pack("!HH", 56_324, 3_333)
IPV4 = ipaddress.ip_address("192.0.2.7").packed + ipaddress.ip_address("10.0.0.1").packed + PORTS
IPV6 = ipaddress.ip_address("2001:db8::7").packed + bytes(16) + PORTS
TLV = b"\x04\x00\x03abc"

GOOD = [
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 3333\r\n", "192.0.2.7"),
    (b"PROXY TCP6 2001:db8::7 ::1 56324 3333\r\n", "2001:db8::7"),
    (b"PROXY TCP6 2001:0DB8:0:0:0:0:0:7 ::1 0 65535\r\n", "2001:db8::7"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
    (v2(0x21, 0x11, IPV4), "192.0.2.7"),
    (v2(0x21, 0x11, IPV4 + TLV), "192.0.2.7"),
    (v2(0x21, 0x21, IPV6), "2001:db8::7"),
    (v2(0x21, 0x31, bytes(216)), None),
    (v2(0x21, 0x00, b""), None),
    (v2(0x20, 0x00, b""), None),
    (v2(0x20, 0x11, IPV4), None),
    (v2(0x20, 0x00, bytes(HEADER_BYTES_MAX - 16)), None),
]

BAD = [
    BEHIND,
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00\x01",  # a TLS ClientHello
    b"\x00",
    b"PROXY  TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n",
    b"PROXY TCP4 192.0.2.07 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.300 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 localhost 1 2\r\n",
    b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
    b"PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 -1 2\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1 \xb2\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n" + bytes(V1_BYTES_MAX),
    b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
    b"PROXY tcp4 192.0.2.7 10.0.0.1 1 2\r\n",
    b"PROXY \r\n",
    b"PROXY " + b"x" * V1_BYTES_MAX,
    v2(0x21, 0x12, IPV4),  # UDP
    v2(0x11, 0x11, IPV4),
    v2(0x22, 0x11, IPV4),
    v2(0x21, 0x41, IPV4),
    v2(0x21, 0x11, IPV4[:-1]),
    v2(0x21, 0x21, IPV4),
    v2(0x21, 0x31, bytes(215)),
    v2(0x21, 0x11, b"", length=0xFFFF),
    v2(0x20, 0x00, b"", length=HEADER_BYTES_MAX - 15),
]


@pytest.mark.parametrize(("header", "source"), GOOD)
def test_good_header_says_whose_connection_it_is_and_where_it_ends(header: bytes, source: str | None) -> None:
    assert parse_proxy_header(header) == ProxyHeader(len(header), source)
    assert parse_proxy_header(header + BEHIND) == ProxyHeader(len(header), source)


@pytest.mark.parametrize(("header", "source"), GOOD)
def test_part_of_a_good_header_waits_for_the_rest(header: bytes, source: str | None) -> None:
    assert [parse_proxy_header(header[:size]) for size in range(len(header))] == [None] * len(header)


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        parse_proxy_header(data)


@settings(derandomize=True, deadline=None)
@given(st.one_of(st.binary(), st.binary().map(SIGNATURE.__add__), st.binary().map(b"PROXY ".__add__)))
def test_no_bytes_do_anything_else(data: bytes) -> None:
    try:
        header = parse_proxy_header(data)
    except BadProxyHeader:
        return
    if header is None:
        assert len(data) < HEADER_BYTES_MAX
    else:
        assert header.size <= min(len(data), HEADER_BYTES_MAX)
