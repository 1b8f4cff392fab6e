"""`angara reload`: what of a changed settings file a running pool takes up, and what waits for a restart."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.live import Live
from pool.admin.live_settings import ANOTHER, LiveSettings, SettingChange
from pool.admin.operators import operator_of
from pool.admin.server import serve_admin
from pool.books.changes.changes import newest_changes
from pool.books.store import Store
from pool.config import PoolConfig, load_settings
from pool.data_dir import admin_socket, held
from pool.fleet.hashrate import HashrateBook
from pool.fleet.registry import Registry
from pool.fleet.rows import RegistryError, load
from pool.people.roles import host_account
from pool.settings_file import BadConfig
from pool.settings_tables import LIVE, all_settings
from tests.fakes.edges import EdgeWithoutMiners, edges_of
from tests.fixtures.databases import store_in
from tests.judges.answers import as_published
from tests.stages.command_line import angara
from tests.stages.plant import Plant, plant
from tests.stages.waiting import until

ADDRESS = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"
SECRET = "hunter2-s3cret"
FILE = f"""
[pool]
network = "regtest"
data_dir = "."
payout_address = "{ADDRESS}"
outage_s = 600

[[node]]
name = "first"
url = "http://127.0.0.1:8332"
user = "u"
password_file = "node.password"

[stratum]
move_interval_s = 600
[stratum.limits]
out_bytes = 65536
idle_s = 600
sessions = 1000
sessions_per_address = 900
half_open_per_address = 100

[messages]
to = ["json://127.0.0.1:9/{SECRET}"]
to_file = "more.urls"
remind_h = 8
[messages.thresholds]
offline_percent = 90
"""
# Of each setting that a pool takes up: what it says in place of what it said.
CHANGES = {
    "pool.outage_s": ("outage_s = 600", "outage_s = 30", ("600.0", "30.0")),
    "stratum.move_interval_s": ("move_interval_s = 600", "move_interval_s = 5", ("600.0", "5.0")),
    "stratum.limits.out_bytes": ("out_bytes = 65536", "out_bytes = 9999", ("65536", "9999")),
    "stratum.limits.sessions": ("\nsessions = 1000", "\nsessions = 70", ("1000", "70")),
    "stratum.limits.sessions_per_address": (
        "sessions_per_address = 900",
        "sessions_per_address = 60",
        ("900", "60"),
    ),
    "stratum.limits.half_open_per_address": (
        "half_open_per_address = 100",
        "half_open_per_address = 5",
        ("100", "5"),
    ),
    "messages.to": (f"9/{SECRET}", f"9/other-{SECRET}", ("set", ANOTHER)),
    "messages.remind_h": ("remind_h = 8", "remind_h = 9", ("8.0", "9.0")),
    "messages.thresholds.offline_percent": ("offline_percent = 90", "offline_percent = 50", ("90.0", "50.0")),
}


class House:
    """A settings file, and who takes it up."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "angara.toml"
        self.path.write_text(FILE)
        (directory / "node.password").write_text(SECRET)
        (directory / "more.urls").write_text(f"json://127.0.0.1:9/more-{SECRET}\n")
        self.taken: list[PoolConfig] = []
        self.refuses: str | None = None
        self.settings = LiveSettings(load_settings(self.path), self.prepare)

    def prepare(self, config: PoolConfig) -> Callable[[], None]:
        if self.refuses is not None:
            raise BadConfig(self.refuses)
        return lambda: self.taken.append(config)

    def says(self, was: str, now: str) -> None:
        text = self.path.read_text()
        assert was in text
        self.path.write_text(text.replace(was, now, 1))

    def reload(self, take: bool = True) -> tuple[tuple[SettingChange, ...], tuple[SettingChange, ...]]:
        with self.settings.reload() as reload:
            assert SECRET not in str(reload.applied + reload.after_restart)
            if take:
                reload.apply()
        return reload.applied, reload.after_restart


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_what_a_pool_takes_up_is_a_setting_each() -> None:
    live = [it.name for it in all_settings() if it.live]
    assert all(any(name == it or name.startswith(f"{it}.") for name in live) for it in LIVE)
    assert {it for it in live if not it.startswith("messages.")} == {
        it for it in CHANGES if not it.startswith("messages.")
    }


@pytest.mark.parametrize("name", CHANGES)
def test_each_is_taken_up_once(house: House, name: str) -> None:
    was, now, words = CHANGES[name]
    assert house.reload() == ((), ())
    house.says(was, now)
    change = SettingChange(setting=name, was=words[0], became=words[1])
    assert house.reload(take=False) == ((change,), ())
    assert house.reload() == ((change,), ()), "it was not taken"
    assert house.reload() == ((), ())
    assert len(house.taken) == 3


def test_what_waits_for_a_restart_is_said_again_and_again(house: House) -> None:
    house.says("idle_s = 600", "idle_s = 500")
    house.says("8332", "8333")
    house.says("outage_s = 600", "outage_s = 30")
    waits = (
        SettingChange(setting="node[0].url", was="http://127.0.0.1:8332", became="http://127.0.0.1:8333"),
        SettingChange(setting="stratum.limits.idle_s", was="600.0", became="500.0"),
    )
    applied, after_restart = house.reload()
    assert ([it.setting for it in applied], after_restart) == (["pool.outage_s"], waits)
    assert house.reload() == ((), waits)
    house.says("idle_s = 500", "idle_s = 600")
    assert house.reload() == ((), waits[:1])


def test_a_node_more_or_less_waits_too(house: House) -> None:
    house.says(
        "[stratum]",
        '[[node]]\nname = "second"\nurl = "http://127.0.0.1:1"\nuser = "u"\npassword = "p"\n[stratum]',
    )
    applied, after_restart = house.reload()
    assert applied == ()
    assert {it.setting for it in after_restart} >= {"node[1].name", "node[1].url", "node[1].password"}
    assert {it.was for it in after_restart} == {"not set"}


@pytest.mark.parametrize(
    ("file", "live", "waits"),
    [("more.urls", ["messages.to_file"], []), ("node.password", [], ["node[0].password_file"])],
)
def test_what_is_in_a_file_of_its_own_is_seen(
    house: House, file: str, live: list[str], waits: list[str]
) -> None:
    (house.path.parent / file).write_text(f"json://127.0.0.1:9/new-{SECRET}")
    applied, after_restart = house.reload()
    assert ([it.setting for it in applied], [it.setting for it in after_restart]) == (live, waits)
    assert {it.became for it in applied + after_restart} == {ANOTHER}
    assert house.reload() == ((), after_restart)
    house.says("remind_h = 8", "remind_h = 9")
    (house.path.parent / "more.urls").write_text(f"json://127.0.0.1:9/again-{SECRET}")
    assert {it.setting for it in house.reload()[0]} == {"messages.remind_h", "messages.to_file"}


def test_a_data_directory_is_not_taken_for_a_password(house: House) -> None:
    (house.path.parent / "x").mkdir()
    house.says('data_dir = "."', 'data_dir = "x"')
    applied, after_restart = house.reload()
    assert (applied, [it.setting for it in after_restart]) == ((), ["pool.data_dir"])


def test_whether_anybody_is_told_waits_for_a_restart(house: House) -> None:
    text = house.path.read_text()
    house.path.write_text(text.partition("[messages]")[0])
    applied, after_restart = house.reload()
    assert applied == ()
    assert {it.setting.partition(".")[0] for it in after_restart} == {"messages"}


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        ("outage_s = 600", "outage_s = 0", "pool.outage_s: 0 is not within"),
        ("idle_s = 600", "idles_s = 600", "idles_s"),
        ("[pool]", "[pool", "angara.toml"),
        ("9/", "9 /\\u0007", "one line"),
        ("more.urls", "gone.urls", "cannot read"),
    ],
)
def test_a_file_that_is_wrong_in_anything_changes_nothing(
    house: House, was: str, now: str, words: str
) -> None:
    house.says("move_interval_s = 600", "move_interval_s = 5")
    house.says(was, now)
    with pytest.raises(BadConfig, match=words.replace("[", r"\[")):
        house.reload()
    assert house.taken == []
    house.says(now, was)
    assert [it.setting for it in house.reload()[0]] == ["stratum.move_interval_s"]


# The command


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(store_in(tmp_path)) as opened:
        yield opened


def live(store: Store, house: House | None) -> Live:
    with store.read() as connection:
        registry = Registry(load(connection))
    hashrates = HashrateBook(registry, 0.0)
    settings = None if house is None else house.settings
    return Live(
        registry, hashrates, edges_of(EdgeWithoutMiners(registry)), lambda view: None, settings=settings
    )


def changes(store: Store) -> list[tuple[str, str, Any, Any]]:
    with store.read() as connection:
        return [
            (it.changed_by, it.source, it.was, it.became) for it in newest_changes(connection, None, None)
        ]


async def reload(store: Store, house: House | None) -> Any:
    desk = Desk(store, "regtest", live(store, house))
    ann = host_account("ann", "socket")
    told = await trio.to_thread.run_sync(execute, desk, "settings.reload", b"{}", ann)
    return as_published("settings.reload", told)


async def test_what_is_taken_up_is_on_record_and_what_is_refused_is_not(store: Store, house: House) -> None:
    house.says("outage_s = 600", "outage_s = 30")
    house.says("9/", "9/a")
    house.says("idle_s = 600", "idle_s = 500")
    told = await reload(store, house)
    assert [it["setting"] for it in told["applied"]] == ["pool.outage_s", "messages.to"]
    assert [it["setting"] for it in told["after_restart"]] == ["stratum.limits.idle_s"]
    was, became = (
        {"pool.outage_s": "600.0", "messages.to": "set"},
        {"pool.outage_s": "30.0", "messages.to": ANOTHER},
    )
    assert changes(store) == [("ann", "socket", was, became)]
    assert len(house.taken) == 1
    house.refuses = "messages.to, number 1: nobody"
    with pytest.raises(RegistryError, match=r"nothing is changed: messages\.to, number 1: nobody"):
        await reload(store, house)
    assert (len(changes(store)), len(house.taken)) == (1, 1)
    with pytest.raises(RegistryError, match="no settings file"):
        await reload(store, None)


async def test_what_cannot_be_written_down_is_not_taken(
    store: Store, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> Any:
        raise RegistryError("the database is away")

    house.says("outage_s = 600", "outage_s = 30")
    with monkeypatch.context() as patched:
        patched.setattr(Store, "write", lambda _: away())
        with pytest.raises(RegistryError, match="away"):
            await reload(store, house)
    assert house.taken == []
    assert [it["setting"] for it in (await reload(store, house))["applied"]] == ["pool.outage_s"]


async def test_the_command_line_says_what_is_in_force(tmp_path: Path, store: Store, house: House) -> None:
    house.says("outage_s = 600", "outage_s = 30")
    house.says("idle_s = 600", "idle_s = 500")
    with held(tmp_path), capture_logs():
        async with trio.open_nursery() as nursery:
            desk = Desk(store, "regtest", live(store, house))
            await nursery.start(serve_admin, desk, admin_socket(tmp_path))
            said = await trio.to_thread.run_sync(angara, tmp_path, "reload")
            house.says("outage_s = 30", "outage_s = 0")
            refused = await trio.to_thread.run_sync(angara, tmp_path, "reload")
            nursery.cancel_scope.cancel()
    lines = [line.split() for line in said.output.splitlines()]
    assert lines[0] == ["setting", "was", "is", "in", "force"]
    assert lines[1:] == [
        ["pool.outage_s", "600.0", "30.0", "now"],
        ["stratum.limits.idle_s", "600.0", "500.0", "after", "a", "restart"],
    ]
    assert refused.exit_code == 2
    assert "nothing is changed: " in refused.output
    alone = angara(tmp_path, "reload")
    assert (alone.exit_code, "no pool runs here" in alone.output) == (2, True)


# The pool


async def test_a_pool_has_in_force_what_it_took_up(tmp_path: Path, house: House) -> None:
    """By the command, and by SIGHUP; who is told goes from the old list to the new one."""
    async with plant(tmp_path, settings_file=house.path) as site:
        for was, now, _ in CHANGES.values():
            house.says(was, now)
        desk = Desk(site.store, "regtest", site.running.live)
        ann = host_account("ann", "socket")
        told = await trio.to_thread.run_sync(execute, desk, "settings.reload", b"{}", ann)
        assert {it["setting"] for it in told["applied"]} == set(CHANGES)
        assert in_force(site) == (30.0, 5.0, 9999, (70, 60, 5), 50.0, 50.0, 9 * 3600.0)
        house.says("outage_s = 30", "outage_s = 31")
        signal.raise_signal(signal.SIGHUP)
        await until(lambda: site.pool.edge.shares.outage.outage_s == 31.0)
        assert changes(site.store)[-1][:2] == (operator_of(os.geteuid()), "SIGHUP")
        house.says("outage_s = 31", "outage_s = 0")
        with capture_logs() as logs:
            signal.raise_signal(signal.SIGHUP)
            await until(lambda: "settings_not_reloaded" in [it["event"] for it in logs])


def in_force(site: Plant) -> Any:
    pool, messenger, dashboard = site.pool, site.pool._messenger, site.pool._dashboard
    assert messenger is not None
    assert dashboard is not None
    bounds = pool.edge.miners.connection_limits.limits
    return (
        pool.edge.shares.outage.outage_s,
        pool.edge.routing.placement.move_interval_s,
        pool.edge.miners.board.out_bytes_max,
        (bounds.sessions_max, bounds.sessions_per_address_max, bounds.half_open_per_address_max),
        messenger._settings.thresholds.offline_percent,
        dashboard._site_map.thresholds.offline_percent,
        messenger._teller.remind_s,
    )
