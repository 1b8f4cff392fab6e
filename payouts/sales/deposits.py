"""Deposits: an order has an address of its own, and what is paid to it on the chain is a payment of its
buyer.

An address is derived by number from a descriptor of public keys, and no number is used twice, whichever order
it was for. What is paid to it in a block that is deep enough is booked, by transaction and output, once;
where that block is in the chain no more, it is booked back, and once more where the payment is found again.

Invariants: a deposit and its posting are one transaction, the caller's, which must be the only writer; of the
deposits of one output at most one is in force. What is paid to an order's address is that order's, whatever
was meant. Must not know: nodes, descriptors.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from payouts.book_time import book_time
from payouts.ledger import (
    Kind,
    LedgerError,
    PoolAccount,
    Transaction,
    Transfer,
    open_receivable,
    post,
    receivable,
    reverse,
)
from payouts.sales.standing import DUST_SAT
from payouts.schemas.money import ledger_transactions
from payouts.schemas.sales import (
    order_addresses,
    order_billing,
    order_deposits,
    order_deposits_seen,
    order_invoices,
)

ADDRESSES_MAX: Final = 10_000  # of orders: a node's blocks are looked through for all of them
# That are left out behind a restore: orders of a day whose addresses a book of before it does not know.
FORGOTTEN_MAX: Final = 100

# The address of a number, with its script.
Derive = Callable[[int], tuple[str, bytes]]


class DepositAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where an order's buyer pays."""

    order_id: int
    position: int
    address: str
    given_at_s: int
    given_by: str


class Deposit(msgspec.Struct, frozen=True, kw_only=True):
    """An output of a transaction that pays an order's address."""

    order_id: int
    txid: str
    vout: int
    amount_sat: int
    block_hash: str
    height: int

    def transaction(self, part: int) -> Transaction:
        """What is booked for it, for the first time (part 0) or after it was booked back."""
        return Transaction(
            key=f"deposit:{self.txid}:{self.vout}:{part}",
            kind=Kind.DEPOSIT,
            memo=f"paid for order {self.order_id} in block {self.block_hash}",
            transfers=(
                Transfer(PoolAccount.ORDER_RECEIVED.value, receivable(self.order_id), self.amount_sat),
            ),
        )


class Seen(msgspec.Struct, frozen=True):
    """Up to which block the chain was looked through."""

    height: int
    block_hash: str


def address_of(connection: Connection, order_id: int) -> DepositAddress | None:
    """None: it was given none."""
    row = connection.execute(
        select(order_addresses).where(order_addresses.c.order_id == order_id)
    ).one_or_none()
    if row is None:
        return None
    return DepositAddress(
        order_id=row.order_id,
        position=row.position,
        address=row.address,
        given_at_s=row.given_at_s,
        given_by=row.given_by,
    )


def address_on(connection: Connection, invoice: int) -> DepositAddress | None:
    """What an invoice says to pay to, with the number that it is derived from. None: it says none. Raises
    LedgerError."""
    of = order_invoices.c
    row = connection.execute(
        select(of.order_id, of.address).where(of.number == invoice, of.address.is_not(None))
    ).one_or_none()
    if row is None:
        return None
    if (given := address_of(connection, row.order_id)) is None:
        raise LedgerError(
            f"invoice {invoice} says to pay to {row.address}, and its order was given no address: somebody"
            " has written to the database. Have nobody pay there"
        )
    return msgspec.structs.replace(given, address=row.address)


def give_address(
    connection: Connection, order_id: int, derive: Derive, *, by: str, now_s: int, forgotten: int = 0
) -> DepositAddress:
    """The order's address, which is made where it has none; `forgotten`: how many may have been given that
    these books do not know of. Raises LedgerError."""
    if (known := address_of(connection, order_id)) is not None:
        return known
    billed = select(order_billing.c.order_id).where(order_billing.c.order_id == order_id)
    if connection.scalar(billed) is None:
        raise LedgerError("nothing is booked of what this order's buyer owes: it was sold without --billing")
    last = connection.scalar(select(func.max(order_addresses.c.position)))
    position = forgotten + (0 if last is None else last + 1)
    if position >= ADDRESSES_MAX:
        raise LedgerError(f"{ADDRESSES_MAX} orders have addresses already")
    address, script = derive(position)
    made = DepositAddress(
        order_id=order_id,
        position=position,
        address=address,
        given_at_s=book_time(connection, now_s),
        given_by=by,
    )
    used = select(order_addresses.c.order_id).where(order_addresses.c.script == script.hex())
    if (other := connection.scalar(used)) is not None:
        raise LedgerError(
            f"the descriptor gives the address of order {other} once more: it is another one now"
        )
    connection.execute(insert(order_addresses).values(**msgspec.structs.asdict(made), script=script.hex()))
    return made


def newest_given_s(connection: Connection) -> int | None:
    """When the newest address was given."""
    newest_s: int | None = connection.scalar(select(func.max(order_addresses.c.given_at_s)))
    return newest_s


def scripts(connection: Connection) -> dict[bytes, int]:
    """What pays which order."""
    rows = connection.execute(select(order_addresses.c.script, order_addresses.c.order_id))
    return {bytes.fromhex(row.script): row.order_id for row in rows}


def first_given_s(connection: Connection) -> int | None:
    """When the first address was given."""
    first_s: int | None = connection.scalar(select(func.min(order_addresses.c.given_at_s)))
    return first_s


def seen(connection: Connection) -> Seen | None:
    """None: nothing was looked through yet."""
    row = connection.execute(select(order_deposits_seen)).one_or_none()
    return None if row is None else Seen(row.height, row.block_hash)


def note_seen(connection: Connection, it: Seen, deposits: tuple[Deposit, ...], now_s: int) -> int:
    """Book what the blocks up to that one paid; how many deposits that were new."""
    fresh = sum(_book(connection, deposit, now_s) for deposit in deposits)
    values = msgspec.structs.asdict(it)
    if connection.execute(update(order_deposits_seen).values(values)).rowcount == 0:
        connection.execute(insert(order_deposits_seen).values(id=1, **values))
    return fresh


def recent(connection: Connection, from_height: int) -> tuple[tuple[int, str, str], ...]:
    """Of the deposits in force of blocks from a height on: number, txid, block."""
    of = order_deposits.c
    rows = connection.execute(
        select(of.id, of.txid, of.block_hash).where(of.height >= from_height, _in_force()).order_by(of.id)
    )
    return tuple((row.id, row.txid, row.block_hash) for row in rows)


def take_back(connection: Connection, number: int, now_s: int) -> bool:
    """The block of a deposit is in the chain no more. False where it is booked back already."""
    of = order_deposits.c
    seq = connection.scalar(select(of.transaction_seq).where(of.id == number, _in_force()))
    if seq is None:
        return False
    reverse(connection, seq, "its block was reorganised out of the chain", now_s)
    return True


def _book(connection: Connection, it: Deposit, now_s: int) -> bool:
    """False where it is booked, and for dust: who sends a thousand outputs of nothing fills no book."""
    of = order_deposits.c
    mine = (of.txid == it.txid) & (of.vout == it.vout)
    standing = select(of.id).where(mine, _in_force())
    if it.amount_sat < DUST_SAT or connection.scalar(standing) is not None:
        return False
    part = connection.scalar(select(func.count()).where(mine)) or 0
    open_receivable(connection, it.order_id)
    at_s = book_time(connection, now_s)
    connection.execute(
        insert(order_deposits).values(
            **msgspec.structs.asdict(it),
            part=part,
            transaction_seq=post(connection, it.transaction(part), at_s).seq,
            booked_at_s=at_s,
        )
    )
    return True


def _in_force() -> ColumnElement[bool]:
    back = select(ledger_transactions.c.reverses_seq).where(ledger_transactions.c.reverses_seq.is_not(None))
    return order_deposits.c.transaction_seq.not_in(back)
