"""The ledger: double entry, append-only, idempotent, hash-chained.

A transfer moves satoshi from one account to another; a transaction is one or more transfers that
happen together. A balance is what came in less what went out, so all balances sum to zero: what the
pool owes and earns is positive, what it spends and holds (its coins) is negative.

Chain: payload = SHA-256 of {"kind", "memo", "reverses", "transfers": [[from, to, sat], ...]} and
hash = SHA-256 of [prev hash, seq, key, booked_at_s, payload], both as JSON with sorted keys, without
spaces and in ASCII; seq counts from 1 without gaps, the first prev hash is 64 zeros.

Invariants: a key books once (the same payload again answers "existed", another is KeyConflict); what a
tenant owns (payable, in payout) is never below zero, after any transaction; a mistake is corrected by
one reversal; booking times never run backwards (`book_time`). Everything is done in the caller's
transaction, which must be the only writer.

Must not know: why something is booked.
"""

import hashlib
import json
from enum import StrEnum

import msgspec
from sqlalchemy import Connection, func, insert, select

from payouts.book_time import book_time
from payouts.schemas.money import ledger_accounts, ledger_transactions, ledger_transfers

GENESIS_HASH = "0" * 64
AMOUNT_SAT_MAX = 21_000_000 * 10**8  # more than this does not exist
TRANSFERS_MAX = 4096  # one payout batch is one transaction; a bitcoin transaction takes fewer outputs
KEY_CHARACTERS_MAX = 200
MEMO_CHARACTERS_MAX = 500


class LedgerError(ValueError):
    """A transaction that the ledger refuses."""


class KeyConflict(LedgerError):
    """The idempotency key was used for something else."""


class Overdrawn(LedgerError):
    """A tenant's account would fall below zero."""


class PoolAccount(StrEnum):
    """The accounts of the pool itself."""

    PPS_EXPENSE = "pool.pps_expense"  # work bought from tenants, at its price before the pool's fee
    FEE_INCOME = "pool.fee_income"
    BLOCKS_DIVIDED = "pool.blocks_divided"  # what of blocks went to those who mine for their own luck
    BLOCK_INCOME_PENDING = "pool.block_income_pending"
    BLOCK_INCOME_MATURED = "pool.block_income_matured"
    NODE_FEES = "pool.node_fees"  # network fees of payout transactions
    ROUNDING = "pool.rounding"
    OVERPAID = "pool.overpaid"  # what somebody with the keys paid tenants beyond what they were owed
    ENERGY_INCOME = "pool.energy_income"  # what tenants were charged for energy
    ENERGY_DUE = "pool.energy_due"  # minus what of it they have not paid yet
    GRID_RECEIVED = "pool.grid_received"  # minus what the grid paid outside, for what was not drawn
    GRID_INCOME = "pool.grid_income"  # the operator's part of that
    ORDER_INCOME = "pool.order_income"  # what buyers were charged for work that was sold to them
    ORDER_RECEIVED = "pool.order_received"  # minus what they paid for it, outside of the payout wallet
    ORDER_WRITTEN_OFF = "pool.order_written_off"  # minus what of it nobody hopes for any more
    COINS = "pool.coins"  # on the chain: minus what the pool holds, coinbases that mature included


class Kind(StrEnum):
    """What a transaction is about."""

    SETTLEMENT = "settlement"
    BLOCK = "block"
    PAYOUT = "payout"
    ADJUSTMENT = "adjustment"
    REVERSAL = "reversal"
    ENERGY = "energy"
    GRID = "grid"
    SALE = "sale"
    SALE_PAYMENT = "sale_payment"
    DIVISION = "division"
    DEPOSIT = "deposit"


class Transfer(msgspec.Struct, frozen=True):
    """Satoshi out of one account into another."""

    from_account: str
    to_account: str
    amount_sat: int


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """Transfers that are booked together, under a key that makes a retry harmless."""

    key: str
    kind: Kind
    memo: str
    transfers: tuple[Transfer, ...]
    reverses_seq: int | None = None

    @property
    def payload_hash(self) -> str:
        """What a retry has to agree with: everything but the key and the time."""
        return canonical_hash(
            {
                "kind": self.kind,
                "memo": self.memo,
                "reverses": self.reverses_seq,
                "transfers": [[t.from_account, t.to_account, t.amount_sat] for t in self.transfers],
            }
        )


class Posted(msgspec.Struct, frozen=True):
    """Where a transaction is in the ledger; `existed` when an earlier call had booked it."""

    seq: int
    existed: bool


def payable(tenant_id: int) -> str:
    """The account of what the pool owes the tenant."""
    return f"tenant.{tenant_id}.payable"


def in_payout(tenant_id: int) -> str:
    """The account of what is on its way to the tenant."""
    return f"tenant.{tenant_id}.in_payout"


def receivable(order_id: int) -> str:
    """The account of what an order's buyer owes: minus that, and above zero what was paid in advance."""
    return f"order.{order_id}.receivable"


def canonical_hash(value: object) -> str:
    """SHA-256 of the value as canonical JSON, in hex."""
    encoded = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(encoded.encode("ascii")).hexdigest()


def chain_hash(prev_hash: str, seq: int, key: str, booked_at_s: int, payload_hash: str) -> str:
    """The hash of a transaction: of itself and, through prev_hash, of all before it."""
    return canonical_hash([prev_hash, seq, key, booked_at_s, payload_hash])


def open_accounts(connection: Connection, tenant_id: int) -> None:
    """Make sure that the tenant has its accounts."""
    found = select(ledger_accounts.c.kind).where(ledger_accounts.c.tenant_id == tenant_id)
    kinds = set(connection.scalars(found))
    for kind, name in (("payable", payable(tenant_id)), ("in_payout", in_payout(tenant_id))):
        if kind not in kinds:
            connection.execute(insert(ledger_accounts).values(name=name, kind=kind, tenant_id=tenant_id))


def open_receivable(connection: Connection, order_id: int) -> None:
    """Make sure that the order has its account."""
    name = receivable(order_id)
    if connection.scalar(select(ledger_accounts.c.name).where(ledger_accounts.c.name == name)) is None:
        connection.execute(insert(ledger_accounts).values(name=name, kind="order_receivable"))


def post(connection: Connection, transaction: Transaction, now_s: int) -> Posted:
    """Book the transaction, or find that it was booked before.

    Raises KeyConflict, Overdrawn, and LedgerError for anything malformed; nothing is booked then.
    """
    _check_form(transaction)
    payload_hash = transaction.payload_hash
    known = connection.execute(
        select(ledger_transactions.c.seq, ledger_transactions.c.payload_hash).where(
            ledger_transactions.c.idempotency_key == transaction.key
        )
    ).one_or_none()
    if known is not None:
        if known.payload_hash != payload_hash:
            raise KeyConflict(f"{transaction.key} is booked as transaction {known.seq} with other content")
        return Posted(known.seq, existed=True)
    _check_accounts(connection, transaction)
    head = connection.execute(
        select(ledger_transactions.c.seq, ledger_transactions.c.hash)
        .order_by(ledger_transactions.c.seq.desc())
        .limit(1)
    ).one_or_none()
    seq, prev_hash = (head.seq + 1, head.hash) if head else (1, GENESIS_HASH)
    booked_at_s = book_time(connection, now_s)
    connection.execute(
        insert(ledger_transactions).values(
            seq=seq,
            idempotency_key=transaction.key,
            kind=transaction.kind.value,
            memo=transaction.memo,
            reverses_seq=transaction.reverses_seq,
            booked_at_s=booked_at_s,
            payload_hash=payload_hash,
            prev_hash=prev_hash,
            hash=chain_hash(prev_hash, seq, transaction.key, booked_at_s, payload_hash),
        )
    )
    connection.execute(
        insert(ledger_transfers),
        [
            {
                "transaction_seq": seq,
                "position": position,
                "from_account": transfer.from_account,
                "to_account": transfer.to_account,
                "amount_sat": transfer.amount_sat,
            }
            for position, transfer in enumerate(transaction.transfers)
        ],
    )
    return Posted(seq, existed=False)


def reverse(connection: Connection, seq: int, memo: str, now_s: int) -> Posted:
    """Book the opposite of transaction `seq`, once. Raises LedgerError where there is nothing to reverse."""
    original = connection.execute(
        select(ledger_transactions.c.kind).where(ledger_transactions.c.seq == seq)
    ).one_or_none()
    if original is None:
        raise LedgerError(f"there is no transaction {seq}")
    if original.kind == Kind.REVERSAL:
        raise LedgerError(f"transaction {seq} is a reversal: book what is right instead")
    transfers = tuple(
        Transfer(t.to_account, t.from_account, t.amount_sat) for t in transfers_of(connection, seq)
    )
    return post(
        connection,
        Transaction(
            key=f"reversal:{seq}", kind=Kind.REVERSAL, memo=memo, transfers=transfers, reverses_seq=seq
        ),
        now_s,
    )


def balance_sat(connection: Connection, account: str) -> int:
    """What came into the account less what went out."""
    moved = ledger_transfers.c.amount_sat
    arrived = select(func.coalesce(func.sum(moved), 0)).where(ledger_transfers.c.to_account == account)
    left = select(func.coalesce(func.sum(moved), 0)).where(ledger_transfers.c.from_account == account)
    return int(connection.scalar(arrived) or 0) - int(connection.scalar(left) or 0)


def balances_sat(connection: Connection) -> dict[str, int]:
    """Every account's balance, by its name in order."""
    balances = dict.fromkeys(connection.scalars(select(ledger_accounts.c.name)), 0)
    moved = func.sum(ledger_transfers.c.amount_sat)
    for column, sign in ((ledger_transfers.c.to_account, 1), (ledger_transfers.c.from_account, -1)):
        for account, total_sat in connection.execute(select(column, moved).group_by(column)):
            balances[account] += sign * int(total_sat)
    return dict(sorted(balances.items()))


def transfers_of(connection: Connection, seq: int) -> tuple[Transfer, ...]:
    """The transfers of transaction `seq` in their order."""
    rows = connection.execute(
        select(ledger_transfers.c.from_account, ledger_transfers.c.to_account, ledger_transfers.c.amount_sat)
        .where(ledger_transfers.c.transaction_seq == seq)
        .order_by(ledger_transfers.c.position)
    )
    return tuple(Transfer(*row) for row in rows)


def _check_form(transaction: Transaction) -> None:
    for name, value, characters_max in (
        ("key", transaction.key, KEY_CHARACTERS_MAX),
        ("memo", transaction.memo, MEMO_CHARACTERS_MAX),
    ):
        if not value or len(value) > characters_max or not value.isprintable():
            raise LedgerError(f"a {name} is 1 to {characters_max} printable characters, not {value!r:.80}")
    if not 1 <= len(transaction.transfers) <= TRANSFERS_MAX:
        raise LedgerError(f"a transaction has 1 to {TRANSFERS_MAX} transfers")
    for transfer in transaction.transfers:
        if not 0 < transfer.amount_sat <= AMOUNT_SAT_MAX:
            raise LedgerError(f"{transfer.amount_sat} satoshi cannot be transferred")
        if transfer.from_account == transfer.to_account:
            raise LedgerError(f"a transfer from {transfer.from_account} to itself moves nothing")
    if (transaction.kind is Kind.REVERSAL) != (transaction.reverses_seq is not None):
        raise LedgerError("a reversal, and nothing else, names what it reverses")


def _check_accounts(connection: Connection, transaction: Transaction) -> None:
    """All accounts exist, and none of a tenant's would be below zero when all transfers are made."""
    change_sat: dict[str, int] = {}
    for transfer in transaction.transfers:
        for account, sat in (
            (transfer.from_account, -transfer.amount_sat),
            (transfer.to_account, transfer.amount_sat),
        ):
            change_sat[account] = change_sat.get(account, 0) + sat
    known = connection.execute(
        select(ledger_accounts.c.name, ledger_accounts.c.tenant_id).where(
            ledger_accounts.c.name.in_(sorted(change_sat))
        )
    )
    tenant_of = {row.name: row.tenant_id for row in known}
    for account, sat in sorted(change_sat.items()):
        if account not in tenant_of:
            raise LedgerError(f"there is no account {account}")
        if sat < 0 and tenant_of[account] is not None:
            found_sat = balance_sat(connection, account)
            if found_sat + sat < 0:
                raise Overdrawn(f"{account} has {found_sat} satoshi, {-sat} cannot leave it")
