"""`[power.signals]`: nothing by itself, and every mistake in it in words."""

import re
import tomllib
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pytest

from pool.config import BadConfig, load_config
from pool.power.signals.bounds import HOUR_S, Bounds
from pool.power.signals.settings import SignalSettings, SignalsTable, signal_settings
from tests.pool.test_config import GOOD

DOCUMENT = Path(__file__).parents[4] / "docs" / "power.md"
HERE: dict[str, Any] = {"url": "http://127.0.0.1:8080/OpenADR2/Simple/2.0b/", "ven_name": "angara"}
FAR: dict[str, Any] = {
    "url": "https://vtn.grid.example/OpenADR2/Simple/2.0b",
    "ven_name": "angara",
    "certificate": "ven.pem",
    "key": "ven.key",
    "authorities": "grid.pem",
}


def read(directory: Path, **table: Any) -> SignalSettings:
    return signal_settings(msgspec.convert(table, SignalsTable), directory)


def test_nothing_listens_to_anybody_by_itself(tmp_path: Path) -> None:
    assert read(tmp_path) == SignalSettings()


def test_what_is_said_is_what_there_is(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        file="calls.toml",
        prices=True,
        webhook_secret_file="grid.secret",
        sites=["north"],
        least_kw=400,
        longest_h=2,
        hours_a_day=3,
        calls_a_day=4,
        openadr=HERE,
    )
    assert (found.file, found.webhook_secret) == (tmp_path / "calls.toml", tmp_path / "grid.secret")
    assert found.bounds == Bounds(
        sites=("north",), least_w=400_000, longest_s=2 * HOUR_S, hours_a_day=3, calls_a_day=4
    )
    assert found.openadr is not None
    assert found.openadr.url == "http://127.0.0.1:8080/OpenADR2/Simple/2.0b"
    assert read(tmp_path, openadr=FAR).openadr is not None


def test_the_settings_of_the_document_are_taken(tmp_path: Path) -> None:
    text = re.search(r"\n((?:    .*\n)+)", DOCUMENT.read_text().partition("## Signals")[2])
    assert text is not None
    table = tomllib.loads(dedent(text[1]))["power"]["signals"]
    assert read(tmp_path, **table).bounds.least_w == 400_000
    text = re.search(r"\n((?:    .*\n)+)", DOCUMENT.read_text().partition("### OpenADR")[2])
    assert text is not None
    found = read(tmp_path, **tomllib.loads(dedent(text[1]))["power"]["signals"]).openadr
    assert found is not None
    assert found.percents == (0, 50, 100)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"file": "calls"}, "power.signals.file: its name ends in .toml or .json"),
        ({"openadr": FAR | {"url": "vtn.grid.example"}}, "url: https://HOST:PORT"),
        ({"openadr": FAR | {"url": "https://"}}, "url: https://HOST:PORT"),
        ({"openadr": FAR | {"url": "http://vtn.grid.example/"}}, "http:// is for this host alone"),
        ({"openadr": FAR | {"url": "http://127.0.0.1.grid.example/"}}, "http:// is for this host alone"),
        ({"openadr": FAR | {"url": "http://127.0.0.1@grid.example:1/"}}, "http:// is for this host alone"),
        ({"openadr": FAR | {"authorities": None}}, "authorities: https:// needs to know"),
        ({"openadr": FAR | {"key": None}}, "a certificate has a key"),
        ({"openadr": HERE | {"percents": [50, 100]}}, "percents has one for each of the levels"),
    ],
)
def test_a_mistake_is_told_in_words(tmp_path: Path, table: dict[str, Any], words: str) -> None:
    with pytest.raises(BadConfig, match=r"^power\.signals") as found:
        read(tmp_path, **table)
    assert words in str(found.value)


def test_a_pool_without_a_door_takes_no_calls_and_an_edge_takes_no_signals(tmp_path: Path) -> None:
    path = tmp_path / "angara.toml"
    path.write_text(GOOD + '[power.signals]\nwebhook_secret_file = "grid.secret"\n')
    with pytest.raises(BadConfig, match=r"power.signals.webhook_secret_file: without \[web\] nobody can"):
        load_config(path)
    edge = '[edge]\nname = "north"\nnats = ["nats://127.0.0.1:1"]\nkey_file = "k"\n'
    path.write_text(GOOD + edge + "[power.signals]\nprices = true\n")
    with pytest.raises(BadConfig, match=r"power\.signals: an edge takes none, its hub does"):
        load_config(path)
