"""Mail by a real SMTP server, chats by a real HTTP server; and nothing of a URL is ever told."""

import email
import email.policy
import logging
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from pool.messages.apprise_sender import AppriseSender, without_secrets
from pool.messages.receiver import NotSent
from tests.pool.messages.test_webhook import MESSAGE, Hook, hook

__all__ = ["hook"]

PASSWORD = "hunter2-of-the-operator"


class Listening(Controller):  # type: ignore[misc]
    """On a port that the system chooses, which its own check does not know."""

    def _trigger_server(self) -> None:
        with socket.create_connection(self.server.sockets[0].getsockname()) as connection:
            connection.recv(1024)


class Post:
    """A mail server that lets `ann` in with her password, and keeps what it is given, or refuses it."""

    def __init__(self) -> None:
        self.mails: list[email.message.EmailMessage] = []
        self.refusal: str | None = None
        self.controller: Any = Listening(
            self, hostname="127.0.0.1", port=0, authenticator=self._knows, auth_require_tls=False
        )

    @property
    def url(self) -> str:
        return f"mailto://ann:{PASSWORD}@127.0.0.1:{self.port}/?from=pool@example.com&to=night@example.com"

    @property
    def port(self) -> int:
        return int(self.controller.server.sockets[0].getsockname()[1])

    def _knows(self, server: Any, session: Any, envelope: Any, mechanism: str, auth: Any) -> AuthResult:
        return AuthResult(success=(auth.login, auth.password) == (b"ann", PASSWORD.encode()))

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refusal is not None:
            return self.refusal
        read: Any = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append(read)
        return "250 OK"


@pytest.fixture
def post() -> Iterator[Post]:
    found = Post()
    found.controller.start()
    yield found
    found.controller.stop()


def test_a_mail_arrives_as_it_was_meant(post: Post) -> None:
    odd = msgspec.structs.replace(
        MESSAGE, title="container acme.<b>c</b> is offline", text="0 & <i>1</i>\nof 400"
    )
    AppriseSender(post.url).send(odd)
    (mail,) = post.mails
    assert mail["Subject"] == "Angara: container acme.<b>c</b> is offline"
    assert mail["To"] == "night@example.com"
    body = mail.get_body(("html", "plain"))
    assert body is not None
    content = body.get_content()
    assert "<i>" not in content if body.get_content_type() == "text/html" else "0 & <i>1</i>" in content


@pytest.mark.parametrize("refusal", ["554 no room for hunter2-of-the-operator", "451 later, ann"])
def test_a_server_that_refuses_is_told_without_a_secret(
    post: Post, refusal: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    post.refusal = refusal
    caplog.set_level(logging.DEBUG)
    with pytest.raises(NotSent) as caught:
        AppriseSender(post.url).send(MESSAGE)
    assert str(caught.value)
    logged = "".join(str(it.__dict__) for it in caplog.records if it.name != "mail.log")  # the server's own
    said = "".join((str(caught.value), logged, *capfd.readouterr()))
    assert PASSWORD not in said
    assert caught.value.__cause__ is None


def test_a_chat_is_sent_to_over_http(hook: Hook) -> None:
    hook.status = 200
    AppriseSender(f"json://ann:{PASSWORD}@127.0.0.1:{hook.port}/room").send(MESSAGE)
    ((path, _, body),) = hook.requests
    assert path.startswith("/room")
    assert msgspec.json.decode(body)["message"] == MESSAGE.text


@pytest.mark.parametrize("status", [401, 500])
def test_a_chat_that_refuses_is_told_without_a_secret(
    hook: Hook, status: int, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    hook.status = status
    caplog.set_level(logging.DEBUG)
    with pytest.raises(NotSent) as caught:
        AppriseSender(f"json://ann:{PASSWORD}@127.0.0.1:{hook.port}/room-of-secrets").send(MESSAGE)
    logged = "".join(str(it.__dict__) for it in caplog.records if it.name != "mail.log")  # the server's own
    said = "".join((str(caught.value), logged, *capfd.readouterr()))
    assert PASSWORD not in said
    assert "room-of-secrets" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said", "left"),
    [
        (
            "tgram://123456:AbCdEf-token/987654/",
            "no chat 987654 for bot 123456:abcdef-token",
            "no chat *** for bot ***:***",
        ),
        ("mailto://ann:p%40ssword@h/", "535 p@ssword or p%40ssword", "535 *** or ***"),
        ("mailto://ann:a+b=c/d@h/?pass=longer+word", "longer word, longer+word", "*** ***, ***+***"),
        ("json://127.0.0.1/", "connection to 127.0.0.1 refused", "connection to *** refused"),
    ],
)
def test_no_part_of_a_url_is_left_whatever_its_case_or_escapes(url: str, said: str, left: str) -> None:
    assert without_secrets(said, url) == left
