"""`angara check` of the files of signals: each fault of a file in words, before the pool is started."""

from pathlib import Path

import pytest
import trustme

from pool.power.signals.files_check import Looked, look_at_files
from pool.power.signals.settings import OpenadrSettings, SignalSettings
from tests.pool.power.signals.test_watched_file import NONE, ONE

SECRET = "5" * 64


@pytest.fixture
def here(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


def put(path: Path, text: str, mode: int) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def looked(settings: SignalSettings) -> Looked:
    (found,) = look_at_files(settings)
    return found


def grid(key: Path | None, certificate: Path | None, authorities: Path | None) -> SignalSettings:
    return SignalSettings(
        openadr=OpenadrSettings(
            url="https://vtn.example/OpenADR2/Simple/2.0b",
            ven_name="angara",
            certificate=certificate,
            key=key,
            authorities=authorities,
            fingerprint=None,
            site="",
            percents=(0, 50, 100),
            poll_s=30,
        )
    )


def test_what_is_not_set_is_not_looked_for() -> None:
    assert list(look_at_files(SignalSettings(prices=True))) == []


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (ONE, 0o644, None),
        (NONE, 0o600, None),
        (ONE, 0o666, "others may write"),
        (ONE.replace("count = 1", "count = 2"), 0o644, "count says 2 calls, and there are 1"),
        (ONE.replace("ramp_s = 300\n", ""), 0o644, "ramp_s"),
        (ONE[:-1], 0o644, "not whole"),
        (None, 0o644, "No such file"),
    ],
)
def test_a_file_of_calls(here: Path, text: str | None, mode: int, words: str | None) -> None:
    path = here / "calls.toml"
    if text is not None:
        put(path, text, mode)
    found = looked(SignalSettings(file=path))
    assert (found.good, found.setting) == (words is None, "power.signals.file")
    assert (words or "asks for") in found.words
    assert str(path) in found.words


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (SECRET, 0o600, None),
        (SECRET, 0o640, "others may read"),
        ("short", 0o600, "has not 32 to 1024 bytes"),
        (None, 0o600, "No such file"),
    ],
)
def test_a_secret_of_a_webhook_of_which_nothing_is_said(
    here: Path, text: str | None, mode: int, words: str | None
) -> None:
    path = here / "grid.secret"
    if text is not None:
        put(path, text, mode)
    found = looked(SignalSettings(webhook_secret=path))
    assert (found.good, found.setting) == (words is None, "power.signals.webhook_secret_file")
    assert (words or "has a secret") in found.words
    assert SECRET not in found.words


def test_the_certificate_and_the_key_for_a_grid(here: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("ven.example")
    certificate, key, authorities = here / "ven.pem", here / "ven.key", here / "grid.pem"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(authorities))
    key.chmod(0o600)
    assert looked(grid(key, certificate, authorities)).good
    key.chmod(0o644)
    assert "others may read" in looked(grid(key, certificate, authorities)).words
    put(key, "not a key", 0o600)
    assert not looked(grid(key, certificate, authorities)).good
    assert "No such file" in looked(grid(key, here / "gone.pem", authorities)).words
    assert "No such file" in looked(grid(None, None, here / "gone.pem")).words
