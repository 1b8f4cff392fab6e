"""Where an upstream is, as a person types it: URLs, an account, and a password from a file.

Invariant: no error repeats anything of a URL, because people put passwords there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec

from pool.settings_file import BadConfig
from stratum.upstream.endpoint import ACCOUNT_CHARS_MAX, BadUpstream, UpstreamEndpoint

SCHEMES: Final = {"stratum+tcp": False, "stratum+ssl": True}  # and whether that is TLS


def endpoints_of(
    urls: Sequence[str], user: str | None, password_file: Path | None, ca_file: Path | None
) -> list[dict[str, Any]]:
    """The endpoints as the command takes them. Raises BadConfig."""
    password = None if password_file is None else _password(password_file)
    try:
        return [msgspec.to_builtins(parse_endpoint(url, user, password, ca_file)) for url in urls]
    except BadUpstream as error:
        raise BadConfig(f"--endpoint: {error}") from None


def parse_endpoint(
    url: str, user: str | None, password: str | None, ca_file: Path | None
) -> UpstreamEndpoint:
    """The endpoint that the URL names. Raises BadUpstream, which repeats nothing of the URL: people put
    passwords there."""
    scheme, _, rest = url.partition("://")
    account, _, address = rest.rpartition("@")
    if scheme not in SCHEMES or not address:
        raise BadUpstream("is to be stratum+tcp://[USER@]HOST:PORT, or stratum+ssl:// for TLS")
    if ":" in account:
        raise BadUpstream("no password here: give --password-file (and in a user's name, : is %3A)")
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise BadUpstream("host and port are to be HOST:PORT")
    if not account and user is None:
        raise BadUpstream("whose account? Give --user, or USER@ in front of the host")
    tls = SCHEMES[scheme]
    secret = {} if password is None else {"password": password}
    path = str(ca_file.absolute()) if ca_file is not None and tls else None
    return UpstreamEndpoint(
        host=host, port=port, user=unquote(account) or user or "", tls=tls, ca_file=path, **secret
    )


def _password(path: Path) -> str:
    """One line. Raises BadConfig."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(ACCOUNT_CHARS_MAX + 3)  # with its line end
    except UnicodeDecodeError:
        text = ""
    password = text.removesuffix("\n").removesuffix("\r")
    if not password or len(password) > ACCOUNT_CHARS_MAX or not password.isprintable():
        raise BadConfig(f"{path} is to hold one line of 1 to {ACCOUNT_CHARS_MAX} printable characters")
    return password
