"""`[messages]` of the settings: who is told, of what, and from where on.

    [messages]
    to = ["mailtos://...", { url_file = "chat.url", least = "critical" },
          { url = "https://hooks.example.com/angara", secret_file = "hook.secret" }]
    to_file = "messages.urls"          # more of them, one a line
    [messages.thresholds]

A URL is one of Apprise's; with a secret it is a webhook of our own kind (`pool.messages.webhook`).

Invariant: addresses hold passwords and tokens, so no error and no repr has one: a receiver is called by its
place and the first word of its URL. Must not know: whether an address leads anywhere.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from pool.messages.conditions import Thresholds
from pool.messages.message import Severity
from pool.settings_file import BadConfig, path_in

RECEIVERS_MAX: Final = 50  # each has a queue of its own, and a thread while it is sent to
URL_CHARS_MAX: Final = 2_000
SECRET_BYTES_MIN: Final = 16  # what is shorter can be found by trying
HOUR_S: Final = 3600.0

Least = Literal["info", "warning", "critical"]


class _Untold(msgspec.Struct, frozen=True):
    """A table whose addresses are secrets."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class ReceiverTable(_Untold, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One that is to have a file of its own for its address, a secret, or less than all."""

    url: str | None = None
    url_file: str | None = None
    secret_file: str | None = None
    least: Least = "info"


class MessagesTable(_Untold, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is told what is worth telling; nobody without it. See [messages.md](messages.md)."""

    to: Annotated[
        list[str | ReceiverTable],
        Meta(
            description="URLs of Apprise, or tables of `url` or `url_file`, `secret_file` (a webhook's), and"
            " `least` (info, warning or critical)",
            extra={"secret": True},
        ),
    ] = []
    to_file: Annotated[str | None, Meta(description="A file of more of these URLs, one a line")] = None
    # A shift is eight hours: each is told once what is still wrong.
    remind_h: Annotated[float, Meta(ge=1, le=168, description="What is still wrong is told again")] = 8.0
    thresholds: Thresholds = Thresholds()


class ReceiverSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told what is at least so bad. With a secret it is a webhook."""

    name: str
    url: str
    secret: bytes | None
    least: Severity

    def __repr__(self) -> str:
        return f"ReceiverSettings(name={self.name!r}, least={self.least.name})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("name", self.name), ("least", self.least.name)]


class MessageSettings(msgspec.Struct, frozen=True, kw_only=True):
    receivers: tuple[ReceiverSettings, ...]
    remind_s: float
    thresholds: Thresholds


def message_settings(table: MessagesTable, base: Path) -> MessageSettings:
    """Checked; files are relative to `base`. Raises BadConfig."""
    found = [_receiver(it, number, base) for number, it in enumerate(table.to, 1)]
    if table.to_file is not None:
        lines = _text(base, table.to_file, "messages.to_file").splitlines()
        urls = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        found += [_receiver(url, number, base) for number, url in enumerate(urls, len(found) + 1)]
    if not found:
        raise BadConfig("messages: nobody is told: give `to` or `to_file`")
    if len(found) > RECEIVERS_MAX:
        raise BadConfig(f"messages: at most {RECEIVERS_MAX} can be told")
    return MessageSettings(
        receivers=tuple(found), remind_s=table.remind_h * HOUR_S, thresholds=table.thresholds
    )


def _receiver(it: str | ReceiverTable, number: int, base: Path) -> ReceiverSettings:
    what = f"messages.to, number {number}"
    table = ReceiverTable(url=it) if isinstance(it, str) else it
    if (table.url is None) == (table.url_file is None):
        raise BadConfig(f"{what}: give url or url_file")
    url = (
        table.url if table.url is not None else _text(base, table.url_file or "", f"{what}: url_file").strip()
    )
    scheme, colon, rest = url.partition("://")
    if not colon or not rest or not scheme.isascii() or not scheme.isalnum() or len(url) > URL_CHARS_MAX:
        raise BadConfig(f"{what}: not a URL like mailtos://user:password@example.com")
    if not url.isprintable():
        raise BadConfig(f"{what}: a URL is one line")
    secret = None
    if table.secret_file is not None:
        secret = _text(base, table.secret_file, f"{what}: secret_file").strip().encode()
        if scheme not in ("http", "https"):
            raise BadConfig(f"{what}: a secret is for a webhook, http:// or https://")
        if len(secret) < SECRET_BYTES_MIN:
            raise BadConfig(f"{what}: the secret_file has less than {SECRET_BYTES_MIN} bytes")
    return ReceiverSettings(
        name=f"{number} ({'webhook' if secret is not None else scheme.lower()})",
        url=url,
        secret=secret,
        least=Severity[table.least.upper()],
    )


def _text(base: Path, name: str, what: str) -> str:
    path = path_in(base, name, what)
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        raise BadConfig(f"{what}: cannot read {path}") from None
