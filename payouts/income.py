"""Income from blocks: each block found, and every change of its status, is booked once.

A block that was found is no income. It is when the best chain has it, and as long as it does: of two blocks
on one parent that is one at most, whatever nodes said when they got them.

When it comes into the chain, whose it is stands in the ledger, and what it is divided by with all that its
division follows from: a row that is changed, made up or taken away later is found by that.

Invariants: a block is known by its hash; its newest event is its status; a status is taken once however
often it is reported. A tenant's credit never depends on it: the luck is the pool's. Everything is done
in the caller's transaction, which must be the only writer.

Must not know: nodes and confirmations.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec
from sqlalchemy import Connection, Select, Subquery, func, insert, select

from payouts.book_time import book_time
from payouts.ledger import (
    KeyConflict,
    Kind,
    LedgerError,
    PoolAccount,
    Transaction,
    Transfer,
    canonical_hash,
    post,
)
from payouts.schemas.divisions import block_funds
from payouts.schemas.money import block_events, blocks, solo_blocks


class Status(StrEnum):
    """Where a block is on its way to being spendable."""

    FOUND = "found"  # on its way to the nodes; not seen in the best chain yet
    PENDING = "pending"  # in the best chain, its coinbase not yet mature
    MATURED = "matured"
    ORPHANED = "orphaned"  # not in the best chain


IN_CHAIN = (Status.PENDING.value, Status.MATURED.value)  # as long as it is one of these, it is income

# What may follow what (None: not known yet), and how its income moves; None: it does not. An orphan may come
# back with the next reorganisation; a matured block is orphaned by one of over 100 blocks, and that is booked
# as well. Books of before FOUND have blocks that began as PENDING.
MOVES: Mapping[tuple[Status | None, Status], tuple[PoolAccount, PoolAccount] | None] = {
    (None, Status.FOUND): None,
    (Status.FOUND, Status.PENDING): (PoolAccount.COINS, PoolAccount.BLOCK_INCOME_PENDING),
    (Status.FOUND, Status.ORPHANED): None,
    (None, Status.PENDING): (PoolAccount.COINS, PoolAccount.BLOCK_INCOME_PENDING),
    (Status.PENDING, Status.MATURED): (PoolAccount.BLOCK_INCOME_PENDING, PoolAccount.BLOCK_INCOME_MATURED),
    (Status.PENDING, Status.ORPHANED): (PoolAccount.BLOCK_INCOME_PENDING, PoolAccount.COINS),
    (Status.MATURED, Status.ORPHANED): (PoolAccount.BLOCK_INCOME_MATURED, PoolAccount.COINS),
    (Status.ORPHANED, Status.PENDING): (PoolAccount.COINS, PoolAccount.BLOCK_INCOME_PENDING),
}


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A block that the pool found."""

    hash: str
    height: int
    income_sat: int  # what its coinbase pays the pool
    worker_id: int | None
    found_at_s: int


def record_block(connection: Connection, block: Block, now_s: int) -> bool:
    """Book that a block was found. False when it is known already, then `found_at_s` stays the first.

    Raises KeyConflict when it is known with another height, income or worker.
    """
    known = connection.execute(select(blocks).where(blocks.c.hash == block.hash)).one_or_none()
    if known is not None:
        if (known.height, known.income_sat, known.worker_id) != (
            block.height,
            block.income_sat,
            block.worker_id,
        ):
            raise KeyConflict(f"block {block.hash} is known with other content")
        return False
    found_at_s = book_time(connection, block.found_at_s)
    values = msgspec.structs.asdict(block) | {"found_at_s": found_at_s}
    connection.execute(insert(blocks).values(**values))
    _append(connection, block.hash, block.income_sat, None, Status.FOUND, 0, now_s)
    return True


def mark(connection: Connection, block_hash: str, status: Status, now_s: int) -> bool:
    """Book that a block came into the chain, matured or was orphaned. False when that is its status already.

    Raises LedgerError for an unknown block, and for a status that cannot follow the present one.
    """
    income_sat = connection.scalar(select(blocks.c.income_sat).where(blocks.c.hash == block_hash))
    if income_sat is None:
        raise LedgerError(f"there is no block {block_hash}")
    newest = connection.execute(
        select(block_events.c.position, block_events.c.status)
        .where(block_events.c.block_hash == block_hash)
        .order_by(block_events.c.position.desc())
        .limit(1)
    ).one()
    before = Status(newest.status)
    if before is status:
        return False
    if (before, status) not in MOVES:
        raise LedgerError(f"block {block_hash} is {before} and cannot become {status}")
    _append(connection, block_hash, income_sat, before, status, newest.position + 1, now_s)
    return True


def owner_words(connection: Connection, block_hash: str) -> str:
    """Whose a block is, by its rows."""
    of = block_funds.c
    fund = connection.execute(select(block_funds).where(of.block_hash == block_hash)).one_or_none()
    if fund is not None:
        follows_from = [fund.scheme, fund.nbits, fund.mined_at_s, fund.ahead]
        return f"divided by {fund.scheme} as {canonical_hash(follows_from)}"
    solo = select(solo_blocks.c.tenant_id).where(solo_blocks.c.block_hash == block_hash)
    return "the pool's" if connection.scalar(solo) is None else "a solo tenant's"


def booking(
    block_hash: str, income_sat: int, before: Status | None, status: Status, position: int, owner: str = ""
) -> Transaction | None:
    """What a change of status books; None where no income moves. `owner`: whose the block is, which versions
    of before did not say."""
    accounts = MOVES[before, status]
    if not income_sat or accounts is None:
        return None
    from_account, to_account = accounts
    return Transaction(
        key=f"block:{block_hash}:{position}",
        kind=Kind.BLOCK,
        memo=f"block {block_hash} {status}" + (f", {owner}" if owner else ""),
        transfers=(Transfer(from_account.value, to_account.value, income_sat),),
    )


def newest_events(before_s: int | None = None) -> Subquery:
    """The status of each block: (block_hash, position, status), as booked before a moment, or now."""
    newest = select(block_events.c.block_hash, func.max(block_events.c.position).label("position"))
    if before_s is not None:
        newest = newest.where(block_events.c.at_s < before_s)
    position = newest.group_by(block_events.c.block_hash).subquery()
    same = (block_events.c.block_hash == position.c.block_hash) & (
        block_events.c.position == position.c.position
    )
    return (
        select(block_events.c.block_hash, block_events.c.position, block_events.c.status)
        .join(position, same)
        .subquery()
    )


def chain_heights(newest: Subquery) -> Select[tuple[int]]:
    """Heights at which the best chain has a block of ours: an orphan there is a sibling of it."""
    return (
        select(blocks.c.height)
        .join(newest, newest.c.block_hash == blocks.c.hash)
        .where(newest.c.status.in_(IN_CHAIN))
    )


def _append(
    connection: Connection,
    block_hash: str,
    income_sat: int,
    before: Status | None,
    status: Status,
    position: int,
    now_s: int,
) -> None:
    owner = owner_words(connection, block_hash) if status is Status.PENDING else ""
    transaction = booking(block_hash, income_sat, before, status, position, owner)
    now_s = book_time(connection, now_s)
    connection.execute(
        insert(block_events).values(
            block_hash=block_hash,
            position=position,
            status=status.value,
            at_s=now_s,
            transaction_seq=post(connection, transaction, now_s).seq if transaction else None,
        )
    )
