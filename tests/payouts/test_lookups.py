"""What is looked up by the minute, or while a block is booked, reads its own rows and no table from end to
end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert

from payouts.divisions import Header, _newest_hour, record_fund
from payouts.income import Block, record_block
from payouts.rates import Scheme
from payouts.sales.charges import _charge_hour
from payouts.sales.invoices import _unsettled
from payouts.sales.open_charges import open_sat, orders_with_open_charges
from payouts.schemas.money import containers, workers
from pool.books.store import Store
from pool.fleet.rows import TenantTerms, add_tenant

NOW_S = 1_788_220_800
BLOCK = "ab" * 32
LARGE = ("rate_hours", "rates", "order_charges")  # 438,000 rows a year with 50 tenants


@contextmanager
def heard(connection: Connection) -> Iterator[list[tuple[str, Any]]]:
    """What is asked of the database."""
    found: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.startswith("SELECT"):
            found.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    yield found
    event.remove(connection, "before_cursor_execute", note)


def plans(connection: Connection, work: Callable[[Connection], object]) -> list[str]:
    """Lines of how each question is answered."""
    with heard(connection) as asked:
        work(connection)
    lite = connection.dialect.name == "sqlite"
    if not lite:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # as it is with more than these rows
    explain = "EXPLAIN QUERY PLAN " if lite else "EXPLAIN "
    rows = [connection.exec_driver_sql(explain + it, parameters).all() for it, parameters in asked]
    return [str(row[-1]) for plan in rows for row in plan]


def found(connection: Connection) -> None:
    record_fund(connection, BLOCK, 1, Header(0x17034219, NOW_S))


@pytest.mark.parametrize(
    "work",
    [
        found,
        lambda connection: _newest_hour(connection, Scheme.PPLNS2, NOW_S // 3600),
        lambda connection: _charge_hour(connection, 1, NOW_S // 3600, NOW_S),
        lambda connection: _unsettled(connection, 1, NOW_S),
        lambda connection: open_sat(connection, 1, NOW_S),
        orders_with_open_charges,
    ],
)
def test_no_large_table_is_read_from_end_to_end(store: Store, work: Callable[[Connection], object]) -> None:
    terms = TenantTerms(scheme=Scheme.PPLNS2, fee_bps=0, payout_minimum_sat=0)
    with store.write() as connection:
        add_tenant(connection, "acme", terms, by="ann", now_s=NOW_S - 86_400)
        row = {"id": 1, "tenant_id": 1, "name": "c01", "created_at_s": 0}
        connection.execute(insert(containers).values(**row))
        row = {"id": 1, "tenant_id": 1, "container_id": 1, "unit": "u", "first_seen_at_s": 0}
        connection.execute(insert(workers).values(**row, last_seen_at_s=0))
        block = Block(hash=BLOCK, height=1, income_sat=5, worker_id=1, found_at_s=NOW_S)
        record_block(connection, block, NOW_S)
        lines = plans(connection, work)
    assert lines
    through = [
        line
        for line in lines
        for table in LARGE
        if line.startswith(f"SCAN {table}") or f"Seq Scan on {table} " in line
    ]
    assert not through, lines
