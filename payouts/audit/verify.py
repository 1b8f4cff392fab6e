"""The audit: reads everything back and says which row is the first that is wrong.

In this order: the chain of transactions with their transfers and the balances along it; then the settlements,
derived again from the shares they name; the shares against the journal, and sums against what they sum; the
rates against their fee bases and orders; the events of blocks; whose the blocks of solo work are; what blocks
were divided over; energy, and what the grid paid; what buyers owe, and have paid. A changed row breaks its
own hash; a chain that was rewritten as a whole breaks against a head that was noted before (a statement
carries one).

Invariants: reads only, in the caller's transaction, which must see one moment. Memory does not grow
with the ledger. Must not know: how to mend anything.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    and_,
    func,
    literal,
    select,
    true,
    union_all,
)

from payouts.accrual import Carry, derive
from payouts.audit.checkpoint import DAY_S, Checkpoint, standing_at
from payouts.audit.divisions import check_divisions, owner_said
from payouts.audit.energy import check_energy
from payouts.audit.filled import filled
from payouts.audit.finding import Found, Wrong
from payouts.audit.sales import check_sales
from payouts.audit.sums import check_sums
from payouts.income import MOVES, Status, booking
from payouts.ledger import (
    GENESIS_HASH,
    Kind,
    Transaction,
    Transfer,
    balances_sat,
    chain_hash,
    transfers_of,
)
from payouts.ratebook import blocks_of_basis, price_of
from payouts.rates import Amount, BadRate, Scheme, fee_basis_sat
from payouts.schemas.book import book
from payouts.schemas.divisions import division_parts
from payouts.schemas.energy import energy_dues, grid_payments
from payouts.schemas.money import (
    block_events,
    blocks,
    fee_bases,
    ledger_accounts,
    ledger_transactions,
    ledger_transfers,
    rate_hours,
    rates,
    settled_shares,
    settlements,
    solo_blocks,
    tally_days,
    tally_hours,
    tally_minutes,
    tenant_addresses,
    tenant_terms,
    workers,
)
from payouts.schemas.orders import orders
from payouts.schemas.sales import order_charges, order_deposits, order_payments
from payouts.solo import is_fee
from payouts.tallies import ACCEPTED

ROWS_AT_ONCE = 1000  # what a walk holds in memory
HASHES_NOTED_MAX = 1000  # heads to be found again in the chain


class Head(msgspec.Struct, frozen=True):
    """The last transaction of a ledger at some moment."""

    seq: int
    hash: str


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What an audit found; `wrong` is None when all is well."""

    head: Head
    balances_sat: dict[str, int]
    settlements: int
    wrong: Wrong | None


class Auditor:
    """One pass over the books, or over what came since a checkpoint; `run` it once."""

    def __init__(
        self,
        connection: Connection,
        noted: Iterable[Head] = (),
        told: Callable[[int], None] | None = None,
        since: Checkpoint | None = None,
    ) -> None:
        self._connection = connection
        self._told = told
        self._walked = 0
        self._noted = {head.seq: head.hash for head in noted}
        self._head = Head(0, GENESIS_HASH)
        self._balances_sat: dict[str, int] = {}
        self._settlements = 0
        self._carries: dict[int, Carry] = {}
        self._kinds = set[str]()  # of the transactions of the chain
        self._since = since
        self._day = 0 if since is None else since.day  # of tallies, the first
        if len(self._noted) > HASHES_NOTED_MAX:
            raise ValueError(f"more than {HASHES_NOTED_MAX} heads")

    def run(self) -> Audit:
        """Check everything up to the first wrong row."""
        wrong = None
        try:
            self._begin()
            self._check_chain()
            self._check_settlements()
            self._check_journal()
            check_sums(self._connection, self._day)
            self._check_fee_bases()
            self._check_orders()
            self._check_blocks()
            self._check_solo_blocks()
            self._check_divisions()
            self._check_energy()
            self._check_sales()
        except Found as found:
            wrong = found.wrong
        return Audit(
            head=self._head,
            balances_sat=dict(sorted(self._balances_sat.items())),
            settlements=self._settlements,
            wrong=wrong,
        )

    def _begin(self) -> None:
        """With nothing, or with what there was at the checkpoint."""
        self._balances_sat = dict.fromkeys(self._connection.scalars(select(ledger_accounts.c.name)), 0)
        if self._since is None:
            return
        there = standing_at(self._connection, self._since)
        self._balances_sat |= there.balances_sat
        self._carries = dict(there.carries)
        self._head = Head(self._since.transactions, self._since.head)
        self._settlements = self._since.settlements
        of = ledger_transactions.c
        for seq in sorted(it for it in self._noted if it <= self._head.seq):
            if self._connection.scalar(select(of.hash).where(of.seq == seq)) != self._noted.pop(seq):
                raise Found("ledger_transactions", seq, "its hash is not the one noted before")

    # The chain

    def _check_chain(self) -> None:
        accounts = self._connection.execute(select(ledger_accounts.c.name, ledger_accounts.c.tenant_id))
        tenant_of = {row.name: row.tenant_id for row in accounts}
        query = (
            select(ledger_transactions, ledger_transfers)
            .join_from(
                ledger_transactions,
                ledger_transfers,
                ledger_transfers.c.transaction_seq == ledger_transactions.c.seq,
                isouter=True,
            )
            .where(ledger_transactions.c.seq > self._head.seq)
            .order_by(ledger_transactions.c.seq, ledger_transfers.c.position)
        )
        for _, group in groupby(self._walk(query), key=lambda row: row.seq):
            rows = list(group)
            self._check_transaction(rows)
            self._kinds.add(rows[0].kind)
            self._move(rows, tenant_of)
            self._head = Head(rows[0].seq, rows[0].hash)
            if self._noted.pop(self._head.seq, self._head.hash) != self._head.hash:
                raise Found("ledger_transactions", self._head.seq, "its hash is not the one noted before")
        if self._noted:
            raise Found("ledger_transactions", min(self._noted), "it was noted before and is missing")
        self._check_none(
            select(ledger_transfers.c.transaction_seq).where(
                ledger_transfers.c.transaction_seq.not_in(select(ledger_transactions.c.seq))
            ),
            "ledger_transfers",
            "its transaction is missing",
        )
        if balances_sat(self._connection) != dict(sorted(self._balances_sat.items())):
            raise Found("ledger_transfers", "indexes", "sums over the index are not those over the rows")

    def _check_transaction(self, rows: list[Row[Any]]) -> None:
        row = rows[0]
        if row.seq != self._head.seq + 1:
            raise Found("ledger_transactions", self._head.seq + 1, "it is missing")
        if row.position is None:
            raise Found("ledger_transactions", row.seq, "it has no transfers")
        if [it.position for it in rows] != list(range(len(rows))):
            raise Found("ledger_transfers", row.seq, "a transfer is missing")
        if row.kind not in set(Kind):
            raise Found("ledger_transactions", row.seq, f"its kind is {row.kind}")
        booked = Transaction(
            key=row.idempotency_key,
            kind=Kind(row.kind),
            memo=row.memo,
            transfers=tuple(Transfer(it.from_account, it.to_account, it.amount_sat) for it in rows),
            reverses_seq=row.reverses_seq,
        )
        if row.payload_hash != booked.payload_hash:
            raise Found("ledger_transactions", row.seq, "its content is not what was hashed")
        if row.prev_hash != self._head.hash:
            raise Found("ledger_transactions", row.seq, "it does not follow the transaction before it")
        if row.hash != chain_hash(
            row.prev_hash, row.seq, row.idempotency_key, row.booked_at_s, row.payload_hash
        ):
            raise Found("ledger_transactions", row.seq, "its hash is not that of its content")
        if row.reverses_seq is not None and booked.transfers != tuple(
            Transfer(it.to_account, it.from_account, it.amount_sat)
            for it in transfers_of(self._connection, row.reverses_seq)
        ):
            raise Found("ledger_transactions", row.seq, f"it is not the opposite of {row.reverses_seq}")

    def _move(self, rows: list[Row[Any]], tenant_of: dict[str, int | None]) -> None:
        touched = set()
        for row in rows:
            for account, sat in ((row.from_account, -row.amount_sat), (row.to_account, row.amount_sat)):
                if account not in self._balances_sat:
                    raise Found("ledger_transfers", row.seq, f"there is no account {account}")
                self._balances_sat[account] += sat
                touched.add(account)
        for account in sorted(touched):
            if tenant_of[account] is not None and self._balances_sat[account] < 0:
                raise Found("ledger_transfers", rows[0].seq, f"{account} is below zero after it")

    # Settlements

    def _check_settlements(self) -> None:
        carries = self._carries
        query = (
            select(
                settlements,
                settled_shares.c.difficulty_log2,
                settled_shares.c.shares,
                rates.c.scheme,
                rates.c.fee_bps,
                rates.c.nbits,
                rates.c.subsidy_sat,
                rates.c.block_fees_sat,
                rates.c.sat_per_ph_day,
                ledger_transactions.c.idempotency_key,
                ledger_transactions.c.payload_hash,
            )
            .join(rates, rates.c.id == settlements.c.rate_id)
            .outerjoin(settled_shares, settled_shares.c.settlement_seq == settlements.c.seq)
            .outerjoin(ledger_transactions, ledger_transactions.c.seq == settlements.c.transaction_seq)
            .where(settlements.c.seq > self._settlements)
            .order_by(settlements.c.seq, settled_shares.c.difficulty_log2)
        )
        for seq, group in groupby(self._walk(query), key=lambda row: row.seq):
            rows = list(group)
            if seq != self._settlements + 1:
                raise Found("settlements", self._settlements + 1, "it is missing")
            if rows[0].shares is None:
                raise Found("settlements", seq, "it names no shares")
            carries[rows[0].tenant_id] = self._check_settlement(rows, carries.get(rows[0].tenant_id, Carry()))
            self._settlements = seq
        parts = (
            select(settlements.c.rate_id, settlements.c.hour)
            .group_by(settlements.c.rate_id, settlements.c.hour)
            .having(func.max(settlements.c.part) + 1 != func.count())
        )
        self._check_none(parts, "settlements", "a part of this rate and hour is missing")
        self._check_booked(Kind.SETTLEMENT, select(settlements.c.transaction_seq))

    def _check_settlement(self, rows: list[Row[Any]], carry_in: Carry) -> Carry:
        row = rows[0]
        shares_by_log2 = {it.difficulty_log2: it.shares for it in rows}
        try:
            price = price_of(row)
        except BadRate as error:
            raise Found("rates", row.rate_id, str(error)) from error
        expected = derive(row.tenant_id, row.rate_id, row.hour, row.part, price, shares_by_log2, carry_in)
        found = (
            Amount(row.credit_sat, row.credit_psat),
            Amount(row.fee_sat, row.fee_psat),
            Carry(row.carry_in_psat, row.fee_carry_in_psat),
            (row.posted_sat, row.fee_posted_sat),
            Carry(row.carry_out_psat, row.fee_carry_out_psat),
        )
        if found != (
            expected.credit,
            expected.fee,
            expected.carry_in,
            (expected.posted_sat, expected.fee_posted_sat),
            expected.carry_out,
        ):
            raise Found("settlements", row.seq, "it does not follow from its shares, rate and carry")
        booked = expected.transaction
        expected_booking = (booked.key, booked.payload_hash) if booked else (None, None)
        if (row.idempotency_key, row.payload_hash) != expected_booking:
            raise Found("settlements", row.seq, "the ledger has something else for it")
        return expected.carry_out

    # Journal

    def _check_journal(self) -> None:
        """Settled shares are those counted as settled; shares by rate are those of the tallies."""
        tallies = tally_minutes, tally_hours, tally_days
        if not filled(self._connection, rate_hours, settled_shares, *tallies):
            return
        keys = (rate_hours.c.rate_id, rate_hours.c.hour, rate_hours.c.difficulty_log2)
        settled = (
            select(
                settlements.c.rate_id,
                settlements.c.hour,
                settled_shares.c.difficulty_log2,
                func.sum(settled_shares.c.shares).label("settled"),
            )
            .join(settlements, settlements.c.seq == settled_shares.c.settlement_seq)
            .where(settlements.c.hour >= self._day * 24)
            .group_by(settlements.c.rate_id, settlements.c.hour, settled_shares.c.difficulty_log2)
            .subquery()
        )
        same = and_(*(settled.c[key.name] == key for key in keys))
        self._check_none(
            select(*keys)
            .outerjoin(settled, same)
            .where(
                rate_hours.c.hour >= self._day * 24,
                func.coalesce(settled.c.settled, 0) != rate_hours.c.settled,
            )
            .order_by(*keys),
            "rate_hours",
            "its settlements are of another number of shares",
        )
        self._check_none(
            select(settled.c.rate_id, settled.c.hour, settled.c.difficulty_log2)
            .outerjoin(rate_hours, same)
            .where(rate_hours.c.rate_id.is_(None)),
            "settled_shares",
            "the journal has no such shares",
        )
        tallied = union_all(
            *(
                select(table.c.rate_id, table.c.difficulty_log2, table.c.shares).where(
                    table.c.verdict == ACCEPTED, self._counted(table)
                )
                for table in tallies
            ),
            select(rate_hours.c.rate_id, rate_hours.c.difficulty_log2, -rate_hours.c.shares).where(
                rate_hours.c.hour >= self._day * 24
            ),
        ).subquery()
        self._check_none(
            select(tallied.c.rate_id, tallied.c.difficulty_log2)
            .group_by(tallied.c.rate_id, tallied.c.difficulty_log2)
            .having(func.sum(tallied.c.shares) != 0)
            .order_by(tallied.c.rate_id, tallied.c.difficulty_log2),
            "rate_hours",
            "the tallies of this rate and difficulty are another number of shares",
        )
        for table in tallies:
            self._check_none(
                select(table.c.worker_id, table.c.rate_id)
                .join(workers, workers.c.id == table.c.worker_id)
                .join(rates, rates.c.id == table.c.rate_id)
                .where(workers.c.tenant_id != rates.c.tenant_id, self._counted(table)),
                table.name,
                "the worker and the rate are of different tenants",
            )

    def _counted(self, table: Table) -> ColumnElement[bool]:
        """Of tallies those that are looked at."""
        if table is tally_minutes:
            return tally_minutes.c.minute >= self._day * 1440
        if self._since is None:
            return true()
        # By machine first: each is looked up, and not all of the table walked through.
        late = tally_hours.c.hour >= self._day * 24 if table is tally_hours else tally_days.c.day >= self._day
        return table.c.worker_id.in_(select(workers.c.id)) & late

    # Rates and blocks

    def _check_fee_bases(self) -> None:
        for basis in self._walk(select(fee_bases).order_by(fee_bases.c.id)):
            listed = blocks_of_basis(self._connection, basis.id)
            try:
                mean_sat = fee_basis_sat(listed)
            except BadRate as error:
                raise Found("fee_bases", basis.id, str(error)) from error
            if mean_sat != basis.block_fees_sat:
                raise Found("fee_bases", basis.id, "its fees are not the trimmed mean of its blocks")
        self._check_none(
            select(rates.c.id)
            .join(fee_bases, fee_bases.c.id == rates.c.fee_basis_id)
            .where(fee_bases.c.block_fees_sat != rates.c.block_fees_sat)
            .order_by(rates.c.id),
            "rates",
            "its block fees are not those of its basis",
        )
        self._check_none(
            select(rates.c.id)
            .where(
                rates.c.scheme == Scheme.FPPS.value,
                rates.c.sat_per_ph_day.is_(None),
                rates.c.fee_basis_id.is_(None),
                rates.c.id >= select(book.c.based_from_rate).scalar_subquery(),
            )
            .order_by(rates.c.id),
            "rates",
            "it is FPPS and has no basis",
        )

    def _check_orders(self) -> None:
        self._check_none(
            select(rates.c.id)
            .join(orders, orders.c.id == rates.c.order_id)
            .where(orders.c.sat_per_ph_day != rates.c.sat_per_ph_day)
            .order_by(rates.c.id),
            "rates",
            "its price is not that of its order",
        )

    def _check_blocks(self) -> None:
        query = (
            select(
                blocks.c.hash,
                blocks.c.income_sat,
                block_events.c.position,
                block_events.c.status,
                ledger_transactions.c.idempotency_key,
                ledger_transactions.c.payload_hash,
                ledger_transactions.c.memo,
            )
            .outerjoin(block_events, block_events.c.block_hash == blocks.c.hash)
            .outerjoin(ledger_transactions, ledger_transactions.c.seq == block_events.c.transaction_seq)
            .order_by(blocks.c.hash, block_events.c.position)
        )
        for block_hash, group in groupby(self._walk(query), key=lambda row: row.hash):
            before = None
            for position, row in enumerate(group):
                if row.position != position or (before, row.status) not in MOVES:
                    raise Found("block_events", block_hash, f"event {position} cannot follow {before}")
                status = Status(row.status)
                # Whose it is, by its own words: `check_divisions` holds them against its rows.
                owner = owner_said(row.memo) if status is Status.PENDING else ""
                booked = booking(block_hash, row.income_sat, before, status, position, owner)
                if (row.idempotency_key, row.payload_hash) != (
                    (booked.key, booked.payload_hash) if booked else (None, None)
                ):
                    raise Found("block_events", block_hash, f"the ledger has something else for {status}")
                before = status
        self._check_booked(Kind.BLOCK, select(block_events.c.transaction_seq))

    def _check_solo_blocks(self) -> None:
        """Each paid an address that its tenant had, and the pool the fee of terms that the tenant had."""
        for row in self._walk(
            select(
                solo_blocks,
                blocks.c.hash,
                blocks.c.income_sat,
                blocks.c.worker_id,
                workers.c.tenant_id.label("finder"),
            )
            .outerjoin(blocks, blocks.c.hash == solo_blocks.c.block_hash)
            .outerjoin(workers, workers.c.id == blocks.c.worker_id)
            .order_by(solo_blocks.c.block_hash)
        ):
            reason = self._why_not_solo(row)
            if reason is not None:
                raise Found("solo_blocks", row.block_hash, reason)

    def _why_not_solo(self, row: Row[Any]) -> str | None:
        if row.hash is None:
            return "its block is missing"
        if row.finder is not None and row.finder != row.tenant_id:
            return "another tenant's machine found it"
        had = select(tenant_addresses.c.id).where(
            tenant_addresses.c.tenant_id == row.tenant_id, tenant_addresses.c.address == row.address
        )
        if self._connection.scalar(had) is None:
            return "its address was never the tenant's"
        fees_bps = self._connection.scalars(
            select(tenant_terms.c.fee_bps).where(tenant_terms.c.tenant_id == row.tenant_id).distinct()
        )
        if not any(is_fee(row.income_sat, row.amount_sat + row.income_sat, bps) for bps in fees_bps):
            return "the pool's part is not the fee of any terms of the tenant"
        return None

    def _check_divisions(self) -> None:
        """Blocks that were divided over the work before them."""
        check_divisions(self._connection, self._day * DAY_S)
        self._check_booked(Kind.DIVISION, select(division_parts.c.transaction_seq))

    def _check_energy(self) -> None:
        """What was charged for it, what is due, and what the grid paid."""
        check_energy(self._connection, self._day * DAY_S)
        self._check_booked(Kind.ENERGY, select(energy_dues.c.transaction_seq))
        self._check_booked(Kind.GRID, select(grid_payments.c.transaction_seq))

    def _check_sales(self) -> None:
        """What buyers were charged, invoiced, and have paid."""
        check_sales(self._connection, self._day * DAY_S)
        self._check_booked(Kind.SALE, select(order_charges.c.transaction_seq))
        self._check_booked(Kind.SALE_PAYMENT, select(order_payments.c.transaction_seq))
        self._check_booked(Kind.DEPOSIT, select(order_deposits.c.transaction_seq))

    def _check_booked(self, kind: Kind, sources: Any) -> None:
        if kind not in self._kinds:
            return
        self._check_none(
            select(ledger_transactions.c.seq)
            .where(
                ledger_transactions.c.kind == literal(kind.value),
                ledger_transactions.c.seq > (0 if self._since is None else self._since.transactions),
                ledger_transactions.c.seq.not_in(sources.where(sources.selected_columns[0].is_not(None))),
            )
            .order_by(ledger_transactions.c.seq),
            "ledger_transactions",
            f"there is no {kind} behind it",
        )

    def _check_none(self, query: Any, table: str, reason: str) -> None:
        row = self._connection.execute(query.limit(1)).first()
        if row is not None:
            raise Found.of(table, row, reason)

    def _walk(self, query: Any) -> Iterator[Row[Any]]:
        with self._connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE)) as rows:
            for part in rows.partitions():
                yield from part
                self._walked += len(part)
                if self._told is not None:
                    self._told(self._walked)


def audit(
    connection: Connection,
    noted: Iterable[Head] = (),
    told: Callable[[int], None] | None = None,
    since: Checkpoint | None = None,
) -> Audit:
    """Check the books, and that every head noted before is still in the chain; or what came `since` a
    checkpoint. `told` hears of how many rows, of at most about `rows_to_walk`, were walked; what is left then
    are questions to the database."""
    return Auditor(connection, noted, told, since).run()


def rows_to_walk(connection: Connection) -> int:
    """How many rows a full audit walks one by one, for who waits for it."""
    walked = ledger_transfers, settled_shares, fee_bases, block_events, solo_blocks
    return sum(connection.execute(select(func.count()).select_from(table)).scalar_one() for table in walked)
