"""Up to where the books were verified in full, so that the next audit need not begin at the first row.

A checkpoint has the last transaction with its hash, the last settlement, a digest of what every account had
and every tenant carried then, and the day from which tallies may have grown since. An audit from it on holds
the chain against that hash and the digest against what the rows before it add up to, and looks at no single
one of them again: what was changed there so that every account has the same is found by a full audit alone.

Must not know: where a checkpoint is kept, and who may be believed.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from payouts.accrual import Carry
from payouts.audit.finding import Found
from payouts.book_time import latest_s
from payouts.ledger import GENESIS_HASH, canonical_hash
from payouts.schemas.money import ledger_accounts, ledger_transactions, ledger_transfers, settlements

DAY_S = 86_400
OPEN_DAYS = 2  # before the book's day: what came late is of these


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a full audit had seen."""

    transactions: int
    head: str  # hash of the last of them
    settlements: int
    day: int  # tallies of it and later ones are looked at again
    digest: str


class Standing(msgspec.Struct, frozen=True):
    """What there was after some transaction and some settlement."""

    balances_sat: Mapping[str, int]
    carries: Mapping[int, Carry]  # by tenant

    @property
    def digest(self) -> str:
        carried = {str(it): [carry.credit_psat, carry.fee_psat] for it, carry in self.carries.items()}
        moved = {account: sat for account, sat in self.balances_sat.items() if sat}
        return canonical_hash([moved, carried])


def checkpoint(connection: Connection) -> Checkpoint:
    """Of the books as they are; whoever notes it has verified them in full, in this transaction."""
    of = ledger_transactions.c
    last = connection.execute(select(of.seq, of.hash).order_by(of.seq.desc()).limit(1)).one_or_none()
    settled = connection.scalar(select(func.max(settlements.c.seq))) or 0
    seq, head = (last.seq, last.hash) if last else (0, GENESIS_HASH)
    return Checkpoint(
        transactions=seq,
        head=head,
        settlements=settled,
        day=max(latest_s(connection) // DAY_S - OPEN_DAYS, 0),
        digest=standing_after(connection, seq, settled).digest,
    )


def standing_at(connection: Connection, it: Checkpoint) -> Standing:
    """What an audit from there on begins with. Raises Found where the books had something else."""
    head = select(ledger_transactions.c.hash).where(ledger_transactions.c.seq == it.transactions)
    if it.transactions and connection.scalar(head) != it.head:
        raise Found("ledger_transactions", it.transactions, "its hash is not that of the checkpoint")
    found = standing_after(connection, it.transactions, it.settlements)
    if found.digest != it.digest:
        raise Found(
            "ledger_transfers",
            f"up to {it.transactions}",
            "accounts had, or tenants carried, something else at the checkpoint",
        )
    return found


def standing_after(connection: Connection, transactions: int, settled: int) -> Standing:
    """After the transaction and the settlement of these numbers."""
    balances_sat = dict.fromkeys(connection.scalars(select(ledger_accounts.c.name)), 0)
    of: Any = ledger_transfers.c
    for column, sign in ((of.to_account, 1), (of.from_account, -1)):
        moved = select(column, func.sum(of.amount_sat)).where(of.transaction_seq <= transactions)
        for account, total_sat in connection.execute(moved.group_by(column)):
            balances_sat[account] = balances_sat.get(account, 0) + sign * int(total_sat)
    newest = (
        select(func.max(settlements.c.seq))
        .where(settlements.c.seq <= settled)
        .group_by(settlements.c.tenant_id)
    )
    carried = select(
        settlements.c.tenant_id, settlements.c.carry_out_psat, settlements.c.fee_carry_out_psat
    ).where(settlements.c.seq.in_(newest))
    carries = {row[0]: Carry(row[1], row[2]) for row in connection.execute(carried)}
    return Standing(balances_sat, carries)
