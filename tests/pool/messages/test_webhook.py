"""A webhook's receiver is a real HTTP server that verifies as docs/messages.md says, by its very code."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pool.messages.message import Happened, Message, Severity
from pool.messages.receiver import NotSent
from pool.messages.webhook import SIGNATURE, Webhook

DOCUMENT = Path(__file__).parents[3] / "docs" / "messages.md"
SECRET = b"0123456789abcdef-of-the-operator"
NOW_S = 1_790_000_000
MESSAGE = Message(
    kind="container-offline",
    happened=Happened.RAISED,
    severity=Severity.WARNING,
    subjects=("container/acme.c07",),
    title="container acme.c07 is offline",
    text="acme.c07: 0 of 400 machines mine",
    at_s=NOW_S,
)


class Hook:
    """An HTTP server that keeps what it is sent and answers `status`."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 204
        requests, hook = self.requests, self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                requests.append((self.path, dict(self.headers), body))
                self.send_response(hook.status)
                self.send_header("Location", f"http://127.0.0.1:{hook.port}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self.thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def close(self) -> None:
        self._server.shutdown()
        self.thread.join()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()
    found.thread.start()
    yield found
    found.close()


@pytest.fixture
def verified() -> Any:
    """The function that the document gives to whoever receives."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.S)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - it is our own document
    return names["verified"]


def url(hook: Hook) -> str:
    return f"http://127.0.0.1:{hook.port}/angara?key=of-its-own"


def test_what_arrives_can_be_verified_and_says_everything(hook: Hook, verified: Any) -> None:
    Webhook(url(hook), SECRET, lambda: NOW_S).send(MESSAGE)
    ((path, headers, body),) = hook.requests
    assert path == "/angara?key=of-its-own"
    assert verified(headers[SIGNATURE], body, SECRET, NOW_S, set())
    assert msgspec.json.decode(body) == {
        "id": MESSAGE.id,
        "kind": "container-offline",
        "happened": "raised",
        "severity": "warning",
        "subjects": ["container/acme.c07"],
        "title": "container acme.c07 is offline",
        "text": "acme.c07: 0 of 400 machines mine",
        "at_s": NOW_S,
    }


def test_what_was_changed_is_late_or_is_sent_again_by_somebody_is_none_of_ours(
    hook: Hook, verified: Any
) -> None:
    Webhook(url(hook), SECRET, lambda: NOW_S).send(MESSAGE)
    ((_, headers, body),) = hook.requests
    header, seen = headers[SIGNATURE], set[str]()
    assert not verified(header, body.replace(b"c07", b"c08"), SECRET, NOW_S, set())
    assert not verified(header, body, SECRET + b"x", NOW_S, set())
    assert not verified(header.replace(f"t={NOW_S}", f"t={NOW_S + 1}"), body, SECRET, NOW_S, set())
    assert not verified(header, body, SECRET, NOW_S + 301, set())
    assert not verified(header, body, SECRET, NOW_S - 301, set())
    for broken in ("", "t=1", "t=x,v1=00", f"v1={'0' * 64}", "t=1,v1=é"):
        assert not verified(broken, body, SECRET, NOW_S, set())
    assert verified(header, body, SECRET, NOW_S, seen)
    assert not verified(header, body, SECRET, NOW_S + 1, seen), "a replay"


@pytest.mark.parametrize("status", [301, 307, 400, 401, 500])
def test_another_answer_is_a_failure_and_nobody_is_followed(hook: Hook, status: int) -> None:
    hook.status = status
    with pytest.raises(NotSent, match=f"^answered HTTP {status}$"):
        Webhook(url(hook), SECRET).send(MESSAGE)
    assert len(hook.requests) == 1


@pytest.mark.parametrize(
    "bad", ["http://127.0.0.1:1/hunter2", "http://[hunter2", "http://127.0.0.1:99999/hunter2"]
)
def test_who_is_not_there_is_told_without_the_url(bad: str) -> None:
    with pytest.raises(NotSent) as caught:
        Webhook(bad, SECRET).send(MESSAGE)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
