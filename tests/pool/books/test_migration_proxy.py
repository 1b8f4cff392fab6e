"""From schema 0003 to 0004: a pool's database of before is kept to the last row, and goes on."""

# ruff: noqa: S608 - these statements have numbers of their own

import struct
from contextlib import closing
from typing import Any

import msgspec
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, column, inspect, select, table, text
from sqlalchemy.exc import DatabaseError

import pool.books.store
from payouts.accrual import settle
from payouts.audit.verify import audit
from payouts.book_time import latest_s
from payouts.schemas.money import rates, tenant_terms
from pool.books.audit.verify import verify
from pool.books.journal.credit_rows import CreditRows
from pool.books.journal.folding import Folding
from pool.books.journal.journal import Journal
from pool.books.journal.rate_epochs import WorkPrice, rate_of
from pool.books.journal.schema import rate_epoch_tenants, rate_epochs
from pool.books.store import Store, open_store, upgrade
from pool.fleet.registry import Registry
from pool.fleet.rows import RegistryError, list_tenants, load, set_terms, terms_of
from tests.fixtures.databases import Crash, Databases, crash_at
from tests.stages.journal import Home
from tests.stages.prices import open_epoch, prices_of

HOUR = 472_222
NOW_S = HOUR * 3600
STATEMENTS = (0, 3, 8, 13, 18, 23, 28, 33, 38, 1000)  # the last: before the commit

# Two tenants, of which one is a proxy tenant as there could be one: without an upstream.
ROWS = (
    "INSERT INTO tenants VALUES (1, 'acme', 'active', 0), (2, 'proxied', 'active', 0)",
    "INSERT INTO tenant_terms (id, tenant_id, scheme, fee_bps, payout_minimum_sat, changed_at_s, changed_by)"
    " VALUES (1, 1, 'pps', 100, 5, 0, 'ann'), (2, 1, 'pps', 200, 5, 1, 'ann'),"
    " (3, 2, 'proxy', 200, 5, 0, 'ann')",
    "INSERT INTO containers (id, tenant_id, name, created_at_s) VALUES (1, 1, 'c01', 0), (2, 2, 'c01', 0)",
    "INSERT INTO workers (id, tenant_id, container_id, unit, first_seen_at_s, last_seen_at_s)"
    " VALUES (1, 1, 1, 'u1', 0, 0), (2, 2, 2, 'u1', 0, 0)",
    "INSERT INTO rates"
    " (id, tenant_id, scheme, fee_bps, nbits, height, subsidy_sat, block_fees_sat, created_at_s)"
    " VALUES (1, 1, 'pps', 200, 386089497, 840000, 312500000, 0, 0),"
    " (2, 2, 'proxy', 200, 386089497, 840000, 312500000, 0, 0)",
    "INSERT INTO rate_epochs VALUES (1, 386089497, 840000, 312500000, NULL, 0)",
    "INSERT INTO rate_epoch_tenants VALUES (1, 1, 1), (1, 2, 2)",
)
# Columns of later versions.
LATER = (
    "removed_at_s",
    *("names", "upstream_id", "order_id", "sat_per_ph_day", "order_credit", "upstream_risk", "upstream"),
    "solo",
)
PRICE = WorkPrice(nbits=386089497, subsidy_sat=312_500_000)
TALLIES = struct.pack("=IIbBHI", 1, 1, 20, 0, 0, 1_000_000)


def at_0003(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Make the database as the version before left it; all of its rows."""
    config = Config()
    config.set_main_option("script_location", str(pool.books.store.MIGRATIONS))
    with closing(Store(pool.books.store.open_engine(url))) as store, store.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        for row in ROWS:
            connection.execute(text(row))
        return rows_of(connection)


def rows_of(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of 0003 that is still there, without what later columns say."""
    found = {}
    for name in inspect(connection).get_table_names():
        columns = [it["name"] for it in inspect(connection).get_columns(name)]
        query: Any = select(*(column(it) for it in columns if it not in LATER)).select_from(table(name))
        found[name] = sorted((tuple(row) for row in connection.execute(query)), key=str)
    del found["alembic_version"]
    found.pop("journal_batches", None)
    return found


def test_every_row_is_kept_and_new_columns_say_that_nothing_was_for_others(databases: Databases) -> None:
    with databases.fresh_url(upgraded=False) as url:
        before = at_0003(url)
        upgrade(url)
        with closing(open_store(url)) as store, store.read() as connection:
            after = rows_of(connection)
            opened = [it for it in after["ledger_accounts"] if it not in before["ledger_accounts"]]
            assert opened == [
                ("pool.blocks_divided", "blocks_divided", None),
                ("pool.energy_due", "energy_due", None),
                ("pool.energy_income", "energy_income", None),
                ("pool.grid_income", "grid_income", None),
                ("pool.grid_received", "grid_received", None),
                ("pool.order_income", "order_income", None),
                ("pool.order_received", "order_received", None),
                ("pool.order_written_off", "order_written_off", None),
                ("pool.overpaid", "overpaid", None),
            ]
            after["ledger_accounts"] = before["ledger_accounts"]
            assert {name: after[name] for name in before} == before
            assert not any(after[name] for name in set(after) - set(before) - {"book"})
            terms = connection.execute(select(tenant_terms)).all()
            assert {(it.upstream_id, it.order_credit, it.upstream_risk) for it in terms} == {
                (None, "pps", "tenant")
            }
            priced = connection.execute(select(rates)).all()
            assert {(it.upstream_id, it.order_id, it.sat_per_ph_day) for it in priced} == {(None, None, None)}
            risks = connection.scalars(select(rate_epoch_tenants.c.upstream_risk))
            assert set(risks) == {"tenant"}
            assert connection.scalars(select(rate_epochs.c.solo)).all() == [0]


# A clock that stepped back, twice: terms and a price, and shares of a minute after everything else.
OUT_OF_ORDER = (
    "INSERT INTO tenant_terms (id, tenant_id, scheme, fee_bps, payout_minimum_sat, changed_at_s, changed_by)"
    f" VALUES (4, 1, 'pps', 300, 5, {NOW_S - 500}, 'ann'), (5, 1, 'pps', 200, 5, {NOW_S - 900}, 'ann')",
    "INSERT INTO rates"
    " (id, tenant_id, scheme, fee_bps, nbits, height, subsidy_sat, block_fees_sat, created_at_s)"
    f" VALUES (3, 1, 'pps', 300, 386089497, 840000, 312500000, 0, {NOW_S - 400}),"
    f" (4, 1, 'pps', 200, 386089497, 840000, 312500000, 0, {NOW_S - 800})",
)


def test_a_book_of_before_that_is_out_of_order_in_time_raises_no_false_alarm(databases: Databases) -> None:
    with databases.fresh_url(upgraded=False) as url:
        at_0003(url)
        with closing(Store(pool.books.store.open_engine(url))) as store, store.write() as connection:
            for row in OUT_OF_ORDER:
                connection.execute(text(row))
        upgrade(url)
        with closing(open_store(url)) as store, store.write() as connection:
            assert verify(connection).wrong is None
            assert latest_s(connection) == NOW_S - 400, "a price was the latest"
            forged = "INSERT INTO rates SELECT {} FROM rates WHERE id = 4"
            names = [it["name"] for it in inspect(connection).get_columns("rates")]
            values = {"id": "5", "created_at_s": str(NOW_S + 1), "fee_bps": "9"}
            connection.execute(text(f"UPDATE book SET latest_s = {NOW_S + 1}"))
            connection.execute(text(forged.format(", ".join(values.get(it, it) for it in names))))
            wrong = verify(connection).wrong
            assert wrong is not None, "what is new is held to the rule"
            assert (wrong.table, wrong.row) == ("rates", "5")


async def test_the_pool_goes_on_where_it_was(databases: Databases) -> None:
    with databases.fresh_url(upgraded=False) as url:
        at_0003(url)
        upgrade(url)
        with closing(open_store(url)) as store:
            home = Home()
            opened = home.start(store)
            with store.read() as connection:
                registry, credits = Registry(load(connection)), CreditRows(connection)
                prices = prices_of(connection, registry, lambda: NOW_S)
            journal = Journal(registry, opened.log, opened.beginning, prices)
            folding = Folding(store, registry, credits, wall_clock=lambda: NOW_S)
            folding.take(journal, opened.taker)
            await journal.commit(TALLIES)
            await folding.fold()
            with store.write() as connection:
                (settlement,) = settle(connection, NOW_S + 7200)
                assert settlement.credit.sat > 0
            with store.read() as connection:
                assert audit(connection).wrong is None
                assert connection.scalar(text("SELECT SUM(shares) FROM rate_hours")) == 1_000_000


def test_a_proxy_tenant_without_an_upstream_mines_for_the_pool_and_is_paid_for_it(
    databases: Databases,
) -> None:
    with databases.fresh_url(upgraded=False) as url:
        at_0003(url)
        upgrade(url)
        with closing(open_store(url)) as store, store.write() as connection:
            epoch = open_epoch(connection, PRICE, 840_001, NOW_S)
            made = rate_of(connection, epoch, 2)
            assert connection.scalar(select(rates.c.scheme).where(rates.c.id == made.rate_id)) == "pps"
            tenant = next(it for it in list_tenants(connection) if it.name == "proxied")
            assert (tenant.scheme, tenant.upstream) == ("proxy", None)
            set_terms(connection, "proxied", terms_of(tenant), by="bob", now_s=NOW_S)  # what is, may stay
            changed = msgspec.structs.replace(terms_of(tenant), fee_bps=1)
            with pytest.raises(RegistryError, match="--upstream"):
                set_terms(connection, "proxied", changed, by="bob", now_s=NOW_S)


def test_what_was_append_only_still_is(databases: Databases) -> None:
    with databases.fresh_url(upgraded=False) as url:
        at_0003(url)
        upgrade(url)
        with closing(open_store(url)) as store:
            for change in (
                "UPDATE tenant_terms SET fee_bps = 1",
                "DELETE FROM rates",
                "UPDATE rate_epochs SET height = 1",
                "UPDATE rate_epoch_tenants SET upstream_risk = 'pool'",
            ):
                with pytest.raises(DatabaseError, match="append-only"), store.write() as connection:
                    connection.execute(text(change))


def test_an_upgrade_that_is_killed_anywhere_leaves_the_database_of_before(databases: Databases) -> None:
    with databases.fresh_url(upgraded=False) as url:
        before = at_0003(url)
        for statement in STATEMENTS:
            with pytest.raises(Crash), crash_at(statement):
                upgrade(url)
            with closing(Store(pool.books.store.open_engine(url))) as store, store.read() as connection:
                assert rows_of(connection) == before
                assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "0003"
        upgrade(url)
        open_store(url).close()
