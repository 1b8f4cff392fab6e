"""Where an upstream is and who we are there: address, account, TLS, and how far it may send us elsewhere.

Invariants: no credential is in a repr or an error; what an upstream says is cleaned of them before anybody
else reads it. Must not know: connections, messages.
"""

import ipaddress
import os
import re
import ssl
import stat
from functools import cache
from typing import Any, Final

import msgspec
from publicsuffixlist import PublicSuffixList

WORDS_CHARS_MAX: Final = 200  # of what an upstream says in words; it ends up in a log line
CA_BYTES_MAX: Final = 4 << 20  # the system's own, of all the world, are a quarter of a mebibyte
ACCOUNT_CHARS_MAX: Final = 255  # the user is part of every submit
HIDDEN: Final = "***"

_HOST_NAME = re.compile(
    r"(?!.{254})([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)


class BadUpstream(ValueError):
    """Settings of an upstream that cannot be used; the text says why, without the account."""


class UpstreamEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One address of an upstream, and our account there. `ca_file` (PEM) replaces the system's CAs.

    Raises BadUpstream.
    """

    host: str
    port: int
    user: str
    password: str = "x"  # what pools take that look at the user alone  # noqa: S105
    tls: bool = False
    ca_file: str | None = None

    def __post_init__(self) -> None:
        if plain_host(self.host) is None:
            raise BadUpstream("the upstream's host is neither a name nor an address")
        if not 0 < self.port < 1 << 16:
            raise BadUpstream(f"{self.host}: {self.port} is not a port")
        if not 0 < len(self.user) <= ACCOUNT_CHARS_MAX or len(self.password) > ACCOUNT_CHARS_MAX:
            raise BadUpstream(f"{self.host}: user and password have at most {ACCOUNT_CHARS_MAX} characters")
        if self.ca_file is not None and not self.tls:
            raise BadUpstream(f"{self.host}: a CA file is of no use without TLS")

    @property
    def address(self) -> str:
        """host:port, for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"UpstreamEndpoint({self.address}{', tls' if self.tls else ''})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("address", self.address), ("tls", self.tls)]

    def cleaned(self, words: object) -> str:
        """What the upstream said as one printable line of bounded length, without user and password."""
        text = str(words)
        for secret in sorted((self.password, self.user), key=len, reverse=True):
            if len(secret) > 1:  # one character is no secret, and would be everywhere
                text = text.replace(secret, HIDDEN)
        text = "".join(c if c.isprintable() else " " for c in text[: 4 * WORDS_CHARS_MAX])
        return " ".join(text.split())[:WORDS_CHARS_MAX]


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """What our side of a TLS connection trusts: the system's CAs, or those of `ca_file` and no others.

    Whoever names the file need not be on this host: he is told the same whether there is none, or one that is
    something else. Reads files for some tens of milliseconds. Raises BadUpstream.
    """
    try:
        return ssl.create_default_context(cadata=None if ca_file is None else _certificates(ca_file))
    except (OSError, ValueError):  # SSLError is an OSError
        raise BadUpstream(
            f"cannot use the CA file {ca_file}: it is no file of certificates (PEM) that the pool's account"
            f" may read, of at most {CA_BYTES_MAX >> 20} MiB"
        ) from None


def _certificates(path: str) -> str:
    """What is in it; never waits for anybody, as a pipe would have a reader do. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no file")
        read = file.read(CA_BYTES_MAX + 1)
    if len(read) > CA_BYTES_MAX or b"-----BEGIN" not in read:  # without any, the system's would be taken
        raise OSError("these are no certificates")
    return read.decode("ascii", "ignore")  # what is between them may be in any language


def plain_host(text: str) -> str | None:
    """A host name in lower case without its last dot, or an IP address; None for what is neither."""
    if not text.isascii():
        return None  # an address's scope is whatever stands there, and nobody can be asked where that is
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        host = text.lower().removesuffix(".")
        return host if _HOST_NAME.fullmatch(host) else None


def same_domain(host: str, other: str) -> bool:
    """Whether an upstream at `host` may send us to `other`, with our account.

    It may if that is the same host, or one of the same registered domain. Whose neighbours are strangers
    (names right below co.uk, duckdns.org, a cloud's), and who has no name, sends us nowhere else.
    """
    ours, theirs = plain_host(host), plain_host(other)
    if ours is None or theirs is None:
        return False
    domain = _registered_domain(ours)
    return ours == theirs or (domain is not None and domain == _registered_domain(theirs))


def _registered_domain(host: str) -> str | None:
    """What somebody registered of a plain host; None for a public suffix, a single label, an IP address.

    An address has spellings that only a resolver takes for one (10.1, 0x0a.1): a top level begins with a
    letter.
    """
    if ":" in host or not host.rpartition(".")[2][0].isalpha():
        return None
    return public_suffixes().privatesuffix(host)


@cache
def public_suffixes() -> PublicSuffixList:
    """Whose names are given to strangers: registries, and who lets hosts below a name (the private section).

    Read from the package when it is first asked, 0.1 s: by whoever makes a client, before it has to answer.
    """
    return PublicSuffixList()
