"""What tenants owe for energy: it grows by charges, and is collected from what the pool owes them.

A charge books income and what is due, and touches no tenant's account; what is due is then taken from the
tenant's payable balance, as far as there is some, and before anything is paid out. So no account falls below
zero, nothing that cannot be paid is forgotten, and later credit pays it first. Where energy was taken back
after it was paid, the tenant is given it the same way.

Invariants: the newest row of a tenant is what it owes; all of them together are minus the balance of
`pool.energy_due`; below zero it is only between a charge and the next collection. Everything is done in the
caller's transaction, which must be the only writer. Must not know: what a kWh costs.
"""

from typing import Final

from sqlalchemy import Connection, func, insert, select

from payouts.book_time import book_time
from payouts.ledger import (
    Kind,
    PoolAccount,
    Transaction,
    Transfer,
    balance_sat,
    open_accounts,
    payable,
    post,
)
from payouts.schemas.energy import energy_dues

COLLECTED_MAX: Final = 20  # tenants in one transaction: 10 ms during which the journal waits for its turn


def due_sat(connection: Connection, tenant_id: int) -> int:
    """What one tenant owes."""
    of = energy_dues.c
    newest = select(of.due_sat).where(of.tenant_id == tenant_id).order_by(of.seq.desc()).limit(1)
    return connection.scalar(newest) or 0


def dues_sat(connection: Connection) -> dict[int, int]:
    """What each tenant owes, of those who owe something or are owed it."""
    of = energy_dues.c
    newest = select(func.max(of.seq)).group_by(of.tenant_id)
    rows = connection.execute(select(of.tenant_id, of.due_sat).where(of.seq.in_(newest), of.due_sat != 0))
    return {row.tenant_id: row.due_sat for row in rows}


def charged(key: str, memo: str, posted_sat: int) -> Transaction:
    """What is booked for a charge: due, and income; the other way where energy is taken back."""
    ways = (PoolAccount.ENERGY_DUE.value, PoolAccount.ENERGY_INCOME.value)
    return _transaction(key, memo, *ways, posted_sat)


def collected(tenant_id: int, seq: int, amount_sat: int) -> Transaction:
    """What is booked when so much of it is paid; given back where it is less than nothing."""
    ways = (payable(tenant_id), PoolAccount.ENERGY_DUE.value)
    memo = f"energy of tenant {tenant_id}, {'collected' if amount_sat > 0 else 'given back'}"
    return _transaction(f"energy-collected:{seq}", memo, *ways, amount_sat)


def note_charge(
    connection: Connection, tenant_id: int, charge_seq: int, transaction: Transaction, sat: int, now_s: int
) -> None:
    """Book a charge of whole satoshi."""
    _note(connection, tenant_id, charge_seq, transaction, sat, now_s)


def collect(connection: Connection, now_s: int, after_tenant: int = 0) -> tuple[int, int | None]:
    """Collect what can be paid, of at most COLLECTED_MAX tenants that owe something, in the order of their
    numbers. How many paid, and after which tenant to go on; None: all were looked at."""
    owing = sorted(it for it in dues_sat(connection).items() if it[0] > after_tenant)
    count = 0
    for tenant_id, due in owing[:COLLECTED_MAX]:
        open_accounts(connection, tenant_id)
        amount = min(due, balance_sat(connection, payable(tenant_id)))
        if amount:
            seq = (connection.scalar(select(func.max(energy_dues.c.seq))) or 0) + 1
            booked = collected(tenant_id, seq, amount)
            _note(connection, tenant_id, None, booked, -amount, now_s)
            count += 1
    return count, owing[COLLECTED_MAX - 1][0] if len(owing) > COLLECTED_MAX else None


def to_collect(connection: Connection) -> bool:
    """Whether `collect` would find something. Reads only: an idle book is not to be written for it."""
    owing = dues_sat(connection).items()
    return any(min(due, balance_sat(connection, payable(tenant))) != 0 for tenant, due in owing)


def _transaction(key: str, memo: str, source: str, target: str, amount_sat: int) -> Transaction:
    if amount_sat < 0:
        source, target = target, source
    transfers = (Transfer(source, target, abs(amount_sat)),)
    return Transaction(key=key, kind=Kind.ENERGY, memo=memo, transfers=transfers)


def _note(
    connection: Connection,
    tenant_id: int,
    charge_seq: int | None,
    transaction: Transaction,
    change_sat: int,
    now_s: int,
) -> None:
    before_sat = due_sat(connection, tenant_id)
    posted = post(connection, transaction, now_s)
    connection.execute(
        insert(energy_dues).values(
            tenant_id=tenant_id,
            charge_seq=charge_seq,
            change_sat=change_sat,
            due_sat=before_sat + change_sat,
            transaction_seq=posted.seq,
            booked_at_s=book_time(connection, now_s),
        )
    )
