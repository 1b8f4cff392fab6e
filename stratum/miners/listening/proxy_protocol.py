"""The PROXY protocol, versions 1 and 2: whose connection a load balancer passes on to us.

A header stands before the first byte of the connection, before a TLS handshake too. Whoever may send one
must send one: a listener that merely tolerated it would let every miner choose its own address.
Specification: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt

Invariant: what is not exactly a header is refused as soon as that is certain.
Must not know: sockets, clocks, who is trusted.
"""

import ipaddress
import struct
from typing import Final

import msgspec

V1_BYTES_MAX: Final = 107  # the longest line that the specification allows, with its CRLF
# The longest address (a Unix socket's) takes 216 bytes; the rest is room for what balancers add about
# themselves and about TLS, which we skip.
HEADER_BYTES_MAX: Final = 2048

_V1_START: Final = b"PROXY "
_V2_START: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD: Final = struct.Struct("!12sBBH")  # signature, version and command, family and transport, length
_V2_LOCAL: Final = 0x20
_V2_PROXY: Final = 0x21
_V2_UNSPECIFIED: Final = 0x00
_V2_UNIX: Final = 0x31
_V2_ADDRESS_BYTES: Final = {0x11: 4, 0x21: 16}  # TCP over IPv4 and IPv6; source and destination, then ports
_UNIX_ADDRESS_BYTES: Final = 108


class BadProxyHeader(Exception):
    """Bytes that cannot be, or become, a PROXY header."""


class ProxyHeader(msgspec.Struct, frozen=True):
    """`source` is the miner's IP address; None where the balancer speaks for itself, or does not know it."""

    size: int  # bytes of the connection that the header takes
    source: str | None


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header that `data` begins with; None while more bytes are needed. Raises BadProxyHeader."""
    if data[: len(_V1_START)] == _V1_START[: len(data)]:
        return _parse_v1(data)
    if data[: len(_V2_START)] == _V2_START[: len(data)]:
        return _parse_v2(data)
    raise BadProxyHeader("no PROXY header")


def _parse_v1(data: bytes) -> ProxyHeader | None:
    line, end, _ = data[:V1_BYTES_MAX].partition(b"\r\n")
    if not end:
        if len(data) >= V1_BYTES_MAX:
            raise BadProxyHeader("a PROXY line without an end")
        return None
    try:
        _, family, *rest = line.decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise BadProxyHeader("a PROXY line that is not ASCII") from None
    size = len(line) + len(end)
    if family == "UNKNOWN":
        return ProxyHeader(size, None)
    version = {"TCP4": 4, "TCP6": 6}.get(family)
    if version is None or len(rest) != 4:
        raise BadProxyHeader("a PROXY line of an unknown form")
    source, _ = (_v1_address(text, version) for text in rest[:2])
    for port in rest[2:]:
        if not port.isdigit() or port != str(int(port)) or int(port) > 0xFFFF:
            raise BadProxyHeader("a PROXY line with a bad port")
    return ProxyHeader(size, source)


def _v1_address(text: str, version: int) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise BadProxyHeader("a PROXY line with a bad address") from None
    if address.version != version:
        raise BadProxyHeader("a PROXY line with an address of the other family")
    return str(address)


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEAD.size:
        return None
    _, command, family, length = _V2_HEAD.unpack_from(data)
    size = _V2_HEAD.size + length
    if command not in (_V2_LOCAL, _V2_PROXY):
        raise BadProxyHeader("a PROXY header of an unknown version or command")
    if size > HEADER_BYTES_MAX:
        raise BadProxyHeader(f"a PROXY header of {size} bytes")
    address_bytes = 0
    if command == _V2_PROXY and family != _V2_UNSPECIFIED:
        if family == _V2_UNIX:
            needed = 2 * _UNIX_ADDRESS_BYTES
        elif family in _V2_ADDRESS_BYTES:
            address_bytes = _V2_ADDRESS_BYTES[family]
            needed = 2 * address_bytes + 4
        else:
            raise BadProxyHeader("a PROXY header that is not for TCP")
        if length < needed:
            raise BadProxyHeader("a PROXY header too short for its addresses")
    if len(data) < size:
        return None
    raw = data[_V2_HEAD.size : _V2_HEAD.size + address_bytes]
    return ProxyHeader(size, str(ipaddress.ip_address(raw)) if raw else None)
