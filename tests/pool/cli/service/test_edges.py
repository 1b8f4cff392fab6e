"""`angara edge -c`: who serves miners at a site, and what is refused before anything is touched; and what the
hub's commands call an edge."""

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from typer.testing import CliRunner

from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.books.edges.leases import Asked, begin
from pool.books.edges.remote_edge import Standing
from pool.books.edges.watch import UNHEARD_S
from pool.cli.books import Books
from pool.cli.main import app
from pool.data_dir import held
from pool.fleet.hashrate import OFFLINE_S
from pool.journal.frames import Place
from pool.people.roles import host_account
from tests.fixtures.databases import store_in
from tests.stages.site_journal import new_nkey

SETTINGS = """
[pool]
network = "regtest"
data_dir = "data"
payout_address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
[[node]]
name = "first"
url = "http://127.0.0.1:18443"
user = "u"
password = "p"
[edge]
name = "north"
nats = ["nats://127.0.0.1:1"]
key_file = "key"
second_journal = "{second}"
"""


def refused(directory: Path, second: str) -> str:
    path = directory / "angara.toml"
    path.write_text(SETTINGS.format(second=second))
    ran = CliRunner().invoke(app, ["edge", "-c", str(path)])
    assert ran.exit_code != 0
    assert isinstance(ran.exception, SystemExit), ran.exception
    return " ".join(ran.output.split())


def test_two_edges_have_no_second_journal_in_common(tmp_path: Path) -> None:
    """Each would take the other one's journal for its own, and write it as it was a moment ago."""
    with held(tmp_path / "second"):
        assert f"another process is using {tmp_path / 'second'}" in refused(tmp_path, "second")
    assert not (tmp_path / "data" / "journal").exists()


@pytest.mark.parametrize("second", ["data", "./data", "data/../data"])
def test_a_second_journal_in_the_same_directory_is_none(tmp_path: Path, second: str) -> None:
    assert "edge: second_journal: is data_dir" in refused(tmp_path, second)


WELL = Standing(
    edge="north",
    epoch=1,
    have=7,
    booked=7,
    heard_age_s=3.0,
    moment_s=0,
    inbox_bytes=0,
    untaken_bytes=0,
    held=None,
    waits=None,
    beyond_at_s=None,
    here_age_s=3.0,
    booked_age_s=3.0,
    hub="hub1",
    unbooked=False,
)


@pytest.mark.parametrize(
    ("now", "state"),
    [
        ({}, "serves"),
        ({"heard_age_s": UNHEARD_S, "waits": "a disk"}, "silent"),
        ({"heard_age_s": None, "here_age_s": UNHEARD_S}, "silent"),
        ({"waits": "a disk"}, "waits"),
        ({"here_age_s": OFFLINE_S}, "behind"),
        ({"booked": 6, "booked_age_s": OFFLINE_S}, "behind"),
        ({"held": "of nobody", "heard_age_s": UNHEARD_S}, "held"),
        (None, "nobody knows: no hub runs here"),
    ],
)
def test_commands_call_an_edge_what_messages_and_the_page_call_it(
    now: dict[str, Any] | None, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = None
    if now is not None:
        standing = msgspec.structs.replace(WELL, **now)
        told = dict.fromkeys(("edges_changed", "tenant_changed"), lambda *_: None)
        live = SimpleNamespace(edge_standing=lambda: [standing], **told)
    with closing(store_in(tmp_path)) as store:
        desk = Desk(store, "regtest", cast(Any, live))

        def ask(books: Books, command: str, **params: Any) -> Any:
            answer = execute(desk, command, msgspec.json.encode(params), host_account("olga", ALONE))
            return msgspec.json.decode(msgspec.json.encode(answer))

        monkeypatch.setattr(Books, "ask", ask)

        def angara(*words: str) -> str:
            ran = CliRunner().invoke(app, [*words, "--data-dir", str(tmp_path)])
            assert ran.exit_code == 0, ran.output
            return ran.output.rstrip()

        angara("tenant", "add", "acme", "--scheme", "pps")
        angara("edge", "add", "north", "--nkey", new_nkey(), "--tenant", "acme")
        assert angara("edge", "list").endswith("  has not begun")
        with store.write() as connection:
            begin(connection, Asked(edge="north", host="a", process="1", writer="0" * 32), Place(), 1)
        assert angara("edge", "list").endswith(f"  {state}")
