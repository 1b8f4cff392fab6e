"""A message as a POST of JSON that its receiver can prove to be ours, and of now.

    Angara-Signature: t=1790000000,v1=<hex>

is HMAC-SHA256 of `<t>.<body>` with the secret that both have. Who verifies it, takes none that is older than
some minutes, and remembers the ids of those minutes, is told nothing by anybody else, and nothing twice.

Blocks: called from a worker thread. Must not know: when a message is due.
"""

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any, Final

import httpx
import msgspec

from pool.messages.message import Message
from pool.messages.receiver import NotSent

SIGNATURE: Final = "Angara-Signature"
ANSWER_TIMEOUT_S: Final = 10.0  # of each step: connect, send, first byte


def body_of(message: Message) -> bytes:
    """As docs/messages.md has it."""
    fields: dict[str, Any] = {
        "id": message.id,
        "kind": message.kind,
        "happened": message.happened.value,
        "severity": message.severity.name.lower(),
        "subjects": list(message.subjects),
        "title": message.title,
        "text": message.text,
        "at_s": message.at_s,
    }
    return msgspec.json.encode(fields)


def signature(secret: bytes, body: bytes, at_s: int) -> str:
    """The header's value."""
    signed = hmac.new(secret, b"%d.%s" % (at_s, body), hashlib.sha256).hexdigest()
    return f"t={at_s},v1={signed}"


class Webhook:
    """Sends to one URL. A redirection is no answer: whoever it leads to was not named by anybody."""

    def __init__(self, url: str, secret: bytes, wall_clock: Callable[[], float] = time.time) -> None:
        self._url, self._secret, self._wall_clock = url, secret, wall_clock

    def send(self, message: Message) -> None:
        """Raises NotSent, in words without the URL."""
        body = body_of(message)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "angara",
            SIGNATURE: signature(self._secret, body, int(self._wall_clock())),
        }
        try:
            # Not the environment's proxies: what is told goes where the settings say.
            with (
                httpx.Client(timeout=ANSWER_TIMEOUT_S, trust_env=False) as client,
                client.stream("POST", self._url, content=body, headers=headers) as response,
            ):
                status = response.status_code
        except httpx.HTTPError as error:
            raise NotSent(f"not reached: {type(error).__name__}") from None
        except (httpx.InvalidURL, ValueError, OSError):
            raise NotSent("the URL leads nowhere") from None
        if not 200 <= status < 300:
            raise NotSent(f"answered HTTP {status}")
