"""Rows of tallies are added up as a person would with pencil and paper, and as exactly, on both databases."""

import random
from collections import Counter

import numpy as np
from sqlalchemy import insert, select

from payouts.schemas.money import rate_hours, rates, tally_minutes
from payouts.tally_rows import NO_ROWS, add
from pool.books.store import Store
from tests.fixtures.databases import add_tenant

SEED = 17
MINUTES = (472_222 * 60 + 59, 472_222 * 60 + 60)  # of two hours
MUCH = 1 << 40  # more than a float32 tells apart, and than 32 bits have


def test_rows_in_any_order_and_again_are_the_sums_of_their_shares(store: Store) -> None:
    chance = random.Random(SEED)
    with store.write() as connection:
        add_tenant(connection, 1, "acme", workers_each=3)
        for number in (1, 2):
            priced = {"id": number, "tenant_id": 1, "scheme": "pps", "fee_bps": 200, "nbits": 0x17034219}
            of = {"height": number, "subsidy_sat": 1, "block_fees_sat": 0, "created_at_s": 0}
            connection.execute(insert(rates).values(priced | of))
        minutes: Counter[tuple[int, ...]] = Counter()
        hours: Counter[tuple[int, ...]] = Counter()
        undelivered: Counter[tuple[int, ...]] = Counter()
        for _ in range(3):
            rows = []
            for _ in range(40):
                verdict = chance.choice((0, 0, 5))
                row = chance.randint(100, 102), chance.choice((1, 2)), chance.choice(MINUTES)
                log2, shares, at_risk = (
                    chance.randint(-2, 1),
                    MUCH + chance.randint(1, 9),
                    chance.randint(0, 1),
                )
                rows.append([*row, log2, verdict, shares, at_risk if verdict == 0 else 0])
                worker, rate, minute = row
                minutes[minute, worker, rate, log2, verdict] += shares
                if verdict == 0:
                    hours[rate, minute // 60, log2] += shares
                    undelivered[rate, minute // 60, log2] += shares * at_risk
            add(connection, np.array(rows, dtype=np.int64))
        add(connection, NO_ROWS)
        in_minutes = {tuple(row[:-1]): row.shares for row in connection.execute(select(tally_minutes))}
        in_hours = {tuple(row[:3]): row for row in connection.execute(select(rate_hours))}
    assert in_minutes == minutes
    assert {key: row.shares for key, row in in_hours.items()} == hours
    assert {key: row.undelivered for key, row in in_hours.items()} == undelivered
    assert {row.settled for row in in_hours.values()} == {0}
