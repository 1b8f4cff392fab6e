"""`[messages]`: what it may say, every mistake in it in words, and no secret in any of them."""

from pathlib import Path

import msgspec
import pytest

from pool.config import BadConfig, load_config
from pool.messages.message import Severity
from pool.messages.messenger import receivers_of
from pool.messages.settings import MessageSettings, MessagesTable, message_settings
from tests.pool.test_config import GOOD

SECRET = "hunter2-of-the-operator"
MAIL = f"mailto://ann:{SECRET}@example.com"


def told(directory: Path, **table: object) -> MessageSettings:
    return message_settings(msgspec.convert(table, MessagesTable), directory)


def test_who_is_told_what(tmp_path: Path) -> None:
    (tmp_path / "chat.url").write_text("tgram://123456789:abcdefg_hijklmnop/12315544/\n")
    (tmp_path / "hook.secret").write_text(f"{SECRET}\n")
    (tmp_path / "more").write_text(f"# the night shift\n\n{MAIL}\n  json://127.0.0.1:9/\n")
    hook = {"url": "https://hooks.example.com/x", "secret_file": "hook.secret", "least": "warning"}
    found = told(
        tmp_path, to=[MAIL, {"url_file": "chat.url", "least": "critical"}, hook], to_file="more", remind_h=2
    )
    assert [(it.name, it.least) for it in found.receivers] == [
        ("1 (mailto)", Severity.INFO),
        ("2 (tgram)", Severity.CRITICAL),
        ("3 (webhook)", Severity.WARNING),
        ("4 (mailto)", Severity.INFO),
        ("5 (json)", Severity.INFO),
    ]
    assert found.receivers[2].secret == SECRET.encode()
    assert found.remind_s == 7200
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "messages: nobody is told: give `to` or `to_file`"),
        ({"to": [SECRET]}, "messages.to, number 1: not a URL like mailtos://user:password@example.com"),
        ({"to": [MAIL, f"mail to://{SECRET}"]}, "messages.to, number 2: not a URL like"),
        ({"to": [f"json://{SECRET}\n"]}, "messages.to, number 1: a URL is one line"),
        ({"to": [{"least": "info"}]}, "messages.to, number 1: give url or url_file"),
        ({"to": [{"url": MAIL, "url_file": "x"}]}, "messages.to, number 1: give url or url_file"),
        ({"to": [{"url_file": "not there"}]}, "messages.to, number 1: url_file: cannot read"),
        ({"to_file": "not there"}, "messages.to_file: cannot read"),
        ({"to": [{"url": MAIL, "secret_file": "hook"}]}, "messages.to, number 1: a secret is for a webhook"),
        ({"to": [{"url": "https://x", "secret_file": "short"}]}, "the secret_file has less than 16 bytes"),
        ({"to": [MAIL] * 51}, "messages: at most 50 can be told"),
    ],
)
def test_a_mistake_is_told_in_words_without_a_secret(
    tmp_path: Path, table: dict[str, object], words: str
) -> None:
    (tmp_path / "hook").write_text(SECRET)
    (tmp_path / "short").write_text("fifteen bytes..")
    with pytest.raises(BadConfig) as caught:
        told(tmp_path, **table)
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_url_that_apprise_makes_nothing_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadConfig, match=r"number 2 \(nosuch\): Apprise makes nothing of this URL"):
        receivers_of(told(tmp_path, to=[MAIL, f"nosuch://ann:{SECRET}@example.com"]))
    with pytest.raises(BadConfig, match=r"number 1 \(mailto\): Apprise makes nothing of this URL"):
        receivers_of(told(tmp_path, to=[f"mailto://{SECRET}"]))
    assert SECRET not in "".join(capfd.readouterr())


def test_the_settings_file_has_it(tmp_path: Path) -> None:
    path = tmp_path / "angara.toml"
    path.write_text(f'{GOOD}[messages]\nto = ["{MAIL}"]\n[messages.thresholds]\nrejected_percent = 2\n')
    found = load_config(path).messages
    assert found is not None
    assert (len(found.receivers), found.thresholds.rejected_percent) == (1, 2.0)
    path.write_text(f'{GOOD}[messages]\nto = ["{MAIL}"]\n[messages.thresholds]\nno_job_s = 5\n')
    with pytest.raises(BadConfig, match=r"messages.thresholds.no_job_s: 5 is not within 60 to 86400"):
        load_config(path)
