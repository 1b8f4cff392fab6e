"""A pool's history for tests of statements: mined, settled and paid by the functions that a pool uses."""

from collections.abc import Sequence
from datetime import date
from fractions import Fraction
from typing import Any

from sqlalchemy import insert, update

from payouts.accrual import settle
from payouts.batches.batch import Item
from payouts.batches.evidence import Found
from payouts.batches.found import adopt
from payouts.batches.plan import Plan, digest
from payouts.batches.psbt import Spend
from payouts.batches.rows import Act
from payouts.batches.steps import approve, draft
from payouts.batches.transaction import Tx, TxInput, TxOutput
from payouts.income import Block, Status, mark, record_block
from payouts.ledger import Kind, PoolAccount, Posted, Transaction, Transfer, open_accounts, payable, post
from payouts.ratebook import record_fee_basis, record_rate
from payouts.rates import BlockFees, Price, Scheme
from payouts.sales.charges import charge_settled
from payouts.schemas.money import containers, tenant_addresses, tenant_terms, workers
from payouts.statements.statement import Statement, statement
from payouts.tallies import Tally, record
from pool.books.store import Store
from stratum.tallies import Verdict
from tests.fixtures.databases import add_tenant

ACME, BOREALIS = 1, 2
DAY = date(2026, 9, 1)
DAY_S = 1_788_220_800  # the start of DAY
HOUR = DAY_S // 3600
P2WPKH = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"
P2TR = "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"
FEES = tuple(BlockFees(height=999_856 + i, hash=f"{i:064x}", fees_sat=4_000_000 + i // 7) for i in range(144))
SHARE = Fraction(1 << 18)


def price(**change: Any) -> Price:
    """FPPS at a difficulty of about 130 T, fee 2.5 %."""
    fields: dict[str, Any] = {
        "nbits": 0x17021A42,
        "subsidy_sat": 312_500_000,
        "block_fees_sat": 4_000_009,
        "fee_bps": 250,
        "scheme": Scheme.FPPS,
    }
    return Price(**(fields | change))


class History:
    """Two tenants with two machines each (ids tenant * 100, tenant * 100 + 1)."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._batches = 0
        self._coins = 0
        with store.write() as connection:
            for tenant_id, name in ((ACME, "acme"), (BOREALIS, "borealis")):
                add_tenant(connection, tenant_id, name)
                open_accounts(connection, tenant_id)
            self._basis = record_fee_basis(connection, FEES, DAY_S - 86_400)
        self.set_terms(DAY_S - 86_400, fee_bps=250)
        self.set_address(P2WPKH, DAY_S - 86_400)

    def rate(self, at_s: int = DAY_S, tenant_id: int = ACME, height: int = 1_000_000, **change: Any) -> int:
        new = price(**change)
        basis = self._basis if new.block_fees_sat else None
        with self.store.write() as connection:
            return record_rate(connection, tenant_id, new, height, basis, at_s)

    def mine(
        self,
        rate: int,
        minute: int,
        shares: int = 1,
        *,
        worker: int = ACME * 100,
        verdict: int = 0,
        log2: int = 18,
    ) -> None:
        """Shares in a minute, counted from the start of DAY."""
        self.tally(
            [
                Tally(
                    worker_id=worker,
                    rate_id=rate,
                    minute=DAY_S // 60 + minute,
                    difficulty_log2=log2,
                    verdict=verdict,
                    shares=shares,
                )
            ]
        )

    def tally(self, tallies: Sequence[Tally]) -> None:
        self._batches += 1
        with self.store.write() as connection:
            assert record(connection, "pool", self._batches, tallies)

    def settle(self, now_s: int) -> None:
        done: tuple[object, ...] = (None,)
        while done:
            with self.store.write() as connection:
                settled = settle(connection, now_s)
                charge_settled(connection, settled, now_s)
                done = settled

    def set_terms(self, at_s: int, fee_bps: int, tenant_id: int = ACME, by: str = "olga") -> None:
        with self.store.write() as connection:
            connection.execute(
                insert(tenant_terms).values(
                    tenant_id=tenant_id,
                    scheme="fpps",
                    fee_bps=fee_bps,
                    payout_minimum_sat=0,
                    changed_at_s=at_s,
                    changed_by=by,
                )
            )

    def set_address(self, address: str, at_s: int, hold_s: int = 0, by: str = "olga") -> None:
        with self.store.write() as connection:
            connection.execute(
                insert(tenant_addresses).values(
                    tenant_id=ACME,
                    address=address,
                    changed_at_s=at_s,
                    changed_by=by,
                    effective_at_s=at_s + hold_s,
                )
            )

    def adjust(self, amount_sat: int, at_s: int, memo: str = "goodwill") -> Posted:
        """A credit, or a debit where the amount is negative."""
        accounts = [PoolAccount.PPS_EXPENSE.value, payable(ACME)]
        source, target = accounts if amount_sat > 0 else reversed(accounts)
        transaction = Transaction(
            key=f"adjustment:{memo}:{at_s}",
            kind=Kind.ADJUSTMENT,
            memo=memo,
            transfers=(Transfer(source, target, abs(amount_sat)),),
        )
        with self.store.write() as connection:
            return post(connection, transaction, at_s)

    def draft(self, amount_sat: int, at_s: int) -> int:
        """An approved batch that pays acme; its number."""
        item = Item(
            position=0,
            tenant_id=ACME,
            tenant="acme",
            address=P2WPKH,
            script=bytes.fromhex("0014" + "11" * 20),
            amount_sat=amount_sat,
        )
        with self.store.write() as connection:
            batch = draft(connection, Plan((item,), ()), Act("olga", at_s))
            approve(connection, batch, digest((item,)), 10_000, Act("dmitri", at_s + 60))
        return batch

    def broadcast(self, batch: int, amount_sat: int, at_s: int) -> str:
        """Its transaction, with a fee of 1,000 sat, is on the network; the txid."""
        self._coins += 1
        coin = Spend(f"{self._coins:064x}", 0, amount_sat + 51_000, bytes.fromhex("0014" + "22" * 20))
        tx = Tx(
            version=2,
            inputs=(TxInput(coin.txid, 0, b"", 0xFFFFFFFD, (bytes(71), bytes(33))),),
            outputs=(
                TxOutput(amount_sat, bytes.fromhex("0014" + "11" * 20)),
                TxOutput(50_000, bytes.fromhex("0014" + "22" * 20)),
            ),
            lock_time=0,
        )
        with self.store.write() as connection:
            found = Found(tx=tx, inputs=(coin,), made_at_height=1, change=tx.outputs[-1])
            adopt(connection, batch, found, Act("olga", at_s))
        return tx.txid

    def state(self, from_day: date, to_day: date, tenant: str = "acme") -> Statement:
        with self.store.read() as connection:
            return statement(connection, tenant, from_day, to_day)


# A machine's name is whatever a miner sends: formulas, markup, controls, text direction, other scripts.
HOSTILE = (
    '=HYPERLINK("http://x","y")',
    "+1",
    "-2+3",
    "@SUM(A1)",
    "<script>alert(1)</script>",
    "a\tb\r\nc\x07",
    "\u202egnp.exe",
    "Шахта-7",
    "张伟",
    "[red]{{ 7 * 7 }}",
    "'quoted",
    "n" * 127,
)


def mine_with_hostile_names(history: History) -> None:
    """A day and a half of work, a payout, a block, and machines with names from hell."""
    with history.store.write() as connection:
        connection.execute(
            insert(workers),
            [
                {
                    "id": 1000 + i,
                    "tenant_id": ACME,
                    "container_id": ACME,
                    "unit": unit,
                    "first_seen_at_s": 0,
                    "last_seen_at_s": 0,
                }
                for i, unit in enumerate(HOSTILE)
            ],
        )
        connection.execute(
            update(containers).where(containers.c.id == ACME).values(nameplate_ths=1400, nameplate_units=14)
        )
    rate = history.rate()
    history.tally(
        [
            Tally(
                worker_id=worker,
                rate_id=rate,
                minute=(HOUR + hour) * 60 + 5,
                difficulty_log2=18,
                verdict=verdict,
                shares=shares,
            )
            for hour in range(36)
            for worker in (ACME * 100, *range(1000, 1000 + len(HOSTILE)))
            for verdict, shares in ((Verdict.ACCEPTED, 9000), (Verdict.STALE, 2))
        ]
    )
    with history.store.write() as connection:
        block = Block(
            hash="ab" * 32, height=1_000_050, income_sat=316_000_000, worker_id=1000, found_at_s=DAY_S + 50
        )
        record_block(connection, block, DAY_S + 60)
        mark(connection, block.hash, Status.PENDING, DAY_S + 60)
    history.adjust(4321, DAY_S + 3 * 3600, "=1+1, <b>agreed</b>")
    history.settle(DAY_S + 12 * 3600 + 90)
    with history.store.write() as connection:
        mark(connection, "ab" * 32, Status.MATURED, DAY_S + 86_400)
    history.settle(DAY_S + 24 * 3600 + 90)
    batch = history.draft(1_000_000, DAY_S + 33 * 3600)
    history.broadcast(batch, 1_000_000, DAY_S + 34 * 3600)
    history.settle(DAY_S + 36 * 3600 + 90)
