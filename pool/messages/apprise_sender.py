"""Mail, Telegram, Slack and a hundred others, by Apprise.

What Apprise and the libraries below it log has addresses, users and tokens in it. None of it reaches a log
of ours: what a sending said is caught, and told without any part of its URL.

Imported when somebody is to be told: that takes half a second. Blocks: called from a worker thread.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import unquote

import apprise
from apprise.logger import logger

from pool.messages.message import Message, Severity
from pool.messages.receiver import NotSent

SAID_CHARS_MAX: Final = 200
LINES_MAX: Final = 5  # of one sending
# What is as short appears in any sentence: leaving it out would say that it is in the URL.
SECRET_CHARS_MIN: Final = 4
HIDDEN: Final = "***"
TYPES: Final = {
    Severity.INFO: apprise.NotifyType.INFO,
    Severity.WARNING: apprise.NotifyType.WARNING,
    Severity.CRITICAL: apprise.NotifyType.FAILURE,
}
# Nothing is written to disk, loaded from there, or shown from somebody else's server.
ASSET: Final = apprise.AppriseAsset(
    app_id="Angara",
    app_desc="Angara",
    app_url="",
    image_url_mask="",
    image_url_logo="",
    async_mode=False,
    secure_logging=True,
    storage_mode=apprise.PersistentStoreMode.MEMORY,
)


class _Said(logging.Handler):
    """What is said by the thread that listens, and nothing of others'; in its order."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        lines: list[str] | None = getattr(self._lines, "now", None)
        if lines is not None and len(lines) < LINES_MAX:
            lines.append(record.getMessage())

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        lines: list[str] = []
        self._lines.now = lines
        try:
            yield lines
        finally:
            self._lines.now = None


SAID: Final = _Said()
logger.handlers = [SAID]
logger.propagate = False
logger.setLevel(logging.WARNING)


class BadReceiver(ValueError):
    """An address that Apprise makes nothing of; why, in words without a secret."""


class AppriseSender:
    """Sends to one URL. Raises BadReceiver."""

    def __init__(self, url: str) -> None:
        self._url = url
        with SAID.listening():  # what it says of a bad one has the URL in it
            try:
                found: Any = apprise.Apprise.instantiate(url, asset=ASSET, suppress_exceptions=True)
            except Exception:  # of a hundred plugins
                found = None
        if found is None:
            raise BadReceiver("Apprise makes nothing of this URL: see its list of services")
        self._plugin = found

    def send(self, message: Message) -> None:
        """Raises NotSent."""
        with SAID.listening() as lines:
            try:
                sent = self._plugin.notify(
                    title=f"Angara: {message.title}",
                    body=message.text,
                    notify_type=TYPES[message.severity],
                    body_format=apprise.NotifyFormat.TEXT,
                )
            except Exception as error:  # of a hundred plugins
                raise NotSent(f"failed with {type(error).__name__}") from None
        if not sent:
            said = "; ".join(without_secrets(line, self._url) for line in lines)
            raise NotSent(said[:SAID_CHARS_MAX] or "was refused, without words")


def without_secrets(text: str, url: str) -> str:
    """The text without any part of the URL: which of them are secret differs with every service."""
    _, _, rest = url.partition("://")
    for mark in "/?&=:@#,;+":
        rest = rest.replace(mark, " ")
    parts = {
        part for word in rest.split() for part in (word, unquote(word), word.lower(), unquote(word).lower())
    }
    parts |= {piece for part in set(parts) for mark in "/?&=:@#,;+ " for piece in part.split(mark)}
    # The longest first: a part of another would leave the rest of that.
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= SECRET_CHARS_MIN:
            text = _hidden(text, part)
    return " ".join(text.split())


def _hidden(text: str, part: str) -> str:
    """Whatever its case: hosts are told in small letters."""
    at = text.lower().find(part.lower())
    while at >= 0:
        text = text[:at] + HIDDEN + text[at + len(part) :]
        at = text.lower().find(part.lower(), at + len(HIDDEN))
    return text
