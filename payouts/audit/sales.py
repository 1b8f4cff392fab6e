"""The audit of what buyers owe: charges derived again from the work, carries, invoices, and what was paid.

Invariants: reads only, in the caller's transaction. Must not know: how to mend anything.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, and_, func, select

from payouts.audit.filled import filled
from payouts.audit.finding import Found
from payouts.ledger import balances_sat, receivable
from payouts.rates import PSAT_PER_SAT
from payouts.sales.charges import ChargeKind, OrderCharge, worth_psat
from payouts.sales.deposits import Deposit
from payouts.sales.payments import Entry, PaymentKind, memo_of
from payouts.sales.standing import standing
from payouts.sales.terms import DAY_S, billing_of
from payouts.schemas.money import ledger_transactions, rate_hours, rates
from payouts.schemas.orders import orders
from payouts.schemas.proposals import confirmations, proposals
from payouts.schemas.sales import (
    order_addresses,
    order_billing,
    order_charge_shares,
    order_charges,
    order_deposits,
    order_invoice_lines,
    order_invoices,
    order_payments,
)

ROWS_AT_ONCE: Final = 1000  # what a walk holds in memory


def check_sales(connection: Connection, from_s: int = 0) -> None:
    """Of charges from that moment on, and of the work of its hours; of invoices and payments all. Raises
    Found for the first row that is wrong."""
    if filled(connection, order_billing, order_charges, order_charge_shares):
        _check_charges(connection, from_s)
        _check_work(connection, from_s // 3600)
    _check_invoices(connection)
    _check_payments(connection)
    _check_deposits(connection)
    _check_accounts(connection)


def _check_charges(connection: Connection, from_s: int) -> None:
    of = order_charges.c
    count, last = connection.execute(select(func.count(), func.coalesce(func.max(of.seq), 0))).one()
    if count != last:
        raise Found("order_charges", f"up to {last}", "one is missing")
    parts = (
        select(of.order_id, of.hour, of.kind)
        .group_by(of.order_id, of.hour, of.kind)
        .having(func.max(of.part) + 1 != func.count())
    )
    _none(connection, parts, "order_charges", "a part of this hour is missing")
    carries: dict[int, int] = {}
    query = (
        select(
            order_charges,
            order_charge_shares.c.difficulty_log2,
            order_charge_shares.c.shares,
            orders.c.sat_per_ph_day,
            ledger_transactions.c.idempotency_key,
            ledger_transactions.c.payload_hash,
        )
        .join(orders, orders.c.id == of.order_id)
        .outerjoin(order_charge_shares, order_charge_shares.c.charge_seq == of.seq)
        .outerjoin(ledger_transactions, ledger_transactions.c.seq == of.transaction_seq)
        .where(of.charged_at_s >= from_s)
        .order_by(of.seq, order_charge_shares.c.difficulty_log2)
    )
    for seq, group in groupby(_walk(connection, query), key=lambda row: row.seq):
        rows = list(group)
        reason = _why_not(connection, rows, carries)
        if reason is not None:
            raise Found("order_charges", seq, reason)


def _why_not(connection: Connection, rows: list[Row[Any]], carries: dict[int, int]) -> str | None:
    row = rows[0]
    amount_psat = row.amount_sat * PSAT_PER_SAT + row.amount_psat
    shares = {it.difficulty_log2: it.shares for it in rows if it.shares is not None}
    if row.kind == ChargeKind.WORK and (not shares or amount_psat != worth_psat(row.sat_per_ph_day, shares)):
        return "it does not follow from its shares and the order's price"
    if row.order_id not in carries:
        of = order_charges.c
        before = select(of.carry_out_psat).where(of.order_id == row.order_id, of.seq < row.seq)
        carries[row.order_id] = connection.scalar(before.order_by(of.seq.desc()).limit(1)) or 0
    expected = OrderCharge(
        order_id=row.order_id,
        hour=row.hour,
        kind=ChargeKind(row.kind),
        part=row.part,
        amount_psat=amount_psat,
        carry_in_psat=carries[row.order_id],
    )
    carries[row.order_id] = expected.carry_out_psat
    found = (row.carry_in_psat, row.posted_sat, row.carry_out_psat)
    if found != (expected.carry_in_psat, expected.posted_sat, expected.carry_out_psat):
        return "it does not follow from its amount and what was carried"
    booked = expected.transaction
    if (row.idempotency_key, row.payload_hash) != (
        (booked.key, booked.payload_hash) if booked else (None, None)
    ):
        return "the ledger has something else for it"
    return None


def _check_work(connection: Connection, first_hour: int) -> None:
    """What was delivered in an hour that is settled is charged, and nothing else is."""
    taken = (
        select(
            rates.c.order_id,
            rate_hours.c.hour,
            rate_hours.c.difficulty_log2,
            func.sum(rate_hours.c.shares - rate_hours.c.undelivered).label("shares"),
        )
        .join(rates, rates.c.id == rate_hours.c.rate_id)
        .join(order_billing, order_billing.c.order_id == rates.c.order_id)
        .where(rate_hours.c.hour >= first_hour)
        .group_by(rates.c.order_id, rate_hours.c.hour, rate_hours.c.difficulty_log2)
        .subquery()
    )
    of = order_charge_shares.c
    charged = (
        select(
            order_charges.c.order_id,
            order_charges.c.hour,
            of.difficulty_log2,
            func.sum(of.shares).label("shares"),
        )
        .join(order_charges, order_charges.c.seq == of.charge_seq)
        .where(order_charges.c.hour >= first_hour)
        .group_by(order_charges.c.order_id, order_charges.c.hour, of.difficulty_log2)
        .subquery()
    )
    same = and_(*(charged.c[it] == taken.c[it] for it in ("order_id", "hour", "difficulty_log2")))
    key = [taken.c[it] for it in ("order_id", "hour")]
    waiting = (
        select(rate_hours.c.hour)
        .join(rates, rates.c.id == rate_hours.c.rate_id)
        .where(
            rates.c.order_id == taken.c.order_id,
            rate_hours.c.hour == taken.c.hour,
            rate_hours.c.settled < rate_hours.c.shares,
        )
        .exists()
    )
    has = func.coalesce(charged.c.shares, 0)
    differ = select(*key).outerjoin(charged, same).where(has != taken.c.shares, ~waiting).order_by(*key)
    _none(
        connection, differ, "order_charges", "its charges are of another number of shares than were delivered"
    )
    more = select(*key).outerjoin(charged, same).where(has > taken.c.shares).order_by(*key)
    _none(connection, more, "order_charges", "more is charged than was delivered")
    nothing = (
        select(charged.c.order_id, charged.c.hour)
        .outerjoin(taken, same)
        .where(taken.c.shares.is_(None))
        .order_by(charged.c.order_id, charged.c.hour)
    )
    _none(connection, nothing, "order_charge_shares", "nobody delivered its shares")


def _check_invoices(connection: Connection) -> None:
    of, line, terms = order_invoices.c, order_invoice_lines.c, billing_of(connection)
    ends: dict[int, int] = {}
    sums = (
        select(
            order_invoices,
            func.sum(order_charges.c.posted_sat).label("posted_sat"),
            func.max(order_charges.c.hour).label("last_hour"),
            func.max(order_charges.c.seq).label("last_seq"),
            func.count(func.distinct(order_charges.c.order_id)).label("orders"),
            func.max(order_charges.c.order_id).label("of_order"),
        )
        .outerjoin(order_invoice_lines, line.invoice == of.number)
        .outerjoin(order_charges, order_charges.c.seq == line.charge_seq)
        .group_by(*order_invoices.columns)
        .order_by(of.number)
    )
    for number, row in enumerate(connection.execute(sums).all(), 1):
        if row.number != number:
            raise Found("order_invoices", number, "it is missing")
        if row.posted_sat is None or (row.orders, row.of_order) != (1, row.order_id):
            raise Found("order_invoices", number, "its lines are not of its order")
        if row.posted_sat != row.amount_sat:
            raise Found("order_invoices", number, "its amount is not that of its lines")
        due_days = terms[row.order_id].due_days
        if row.due_at_s != row.issued_at_s + due_days * DAY_S:
            raise Found("order_invoices", number, "it is due at another time than its order's terms say")
        if row.from_s != ends.get(row.order_id, row.from_s) or row.issued_at_s < row.to_s - DAY_S:
            raise Found("order_invoices", number, "it does not go on from the one before it")
        given = connection.execute(
            select(order_addresses.c.address).where(order_addresses.c.order_id == row.order_id)
        ).scalar_one_or_none()
        if row.address not in (None, given):
            raise Found("order_invoices", number, "its address is not its order's")
        if (row.last_hour + 1) * 3600 > row.to_s:
            raise Found("order_invoices", number, "it has a charge of after its end")
        ends[row.order_id] = row.to_s
        left_out = (
            select(order_charges.c.seq)
            .outerjoin(order_invoice_lines, line.charge_seq == order_charges.c.seq)
            .where(
                order_charges.c.order_id == row.order_id,
                order_charges.c.seq < row.last_seq,
                order_charges.c.hour < row.to_s // 3600,
                func.coalesce(line.invoice, number + 1) > number,
            )
        )
        _none(connection, left_out, "order_invoice_lines", f"invoice {number} leaves this charge out")
    lost = select(line.charge_seq).outerjoin(order_invoices, of.number == line.invoice)
    _none(connection, lost.where(of.number.is_(None)), "order_invoice_lines", "its invoice is missing")


def _check_payments(connection: Connection) -> None:
    of = order_payments.c
    query = (
        select(
            order_payments,
            proposals.c.kind.label("said"),
            proposals.c.subject,
            proposals.c.why,
            proposals.c.proposed_by,
            confirmations.c.confirmed_by,
            confirmations.c.transaction_seq.label("confirmed_seq"),
            ledger_transactions.c.idempotency_key,
            ledger_transactions.c.payload_hash,
        )
        .outerjoin(proposals, proposals.c.id == of.proposal_id)
        .outerjoin(confirmations, confirmations.c.proposal_id == of.proposal_id)
        .outerjoin(ledger_transactions, ledger_transactions.c.seq == of.transaction_seq)
        .order_by(of.id)
    )
    for number, row in enumerate(connection.execute(query).all(), 1):
        if row.id != number:
            raise Found("order_payments", number, "it is missing")
        kind = PaymentKind(row.kind)
        entry = Entry(
            kind=kind,
            order_id=row.order_id,
            amount_sat=row.amount_sat,
            reference=row.reference if kind is PaymentKind.PAYMENT else "",
            invoice=row.invoice,
            tenant_id=row.tenant_id,
        )
        if (row.said, row.subject, row.confirmed_seq) != (kind.value, entry.subject, row.transaction_seq):
            raise Found("order_payments", number, "no two persons said so")
        booked = entry.transaction(number, memo_of(row.proposed_by, row.confirmed_by, row.why))
        if (row.idempotency_key, row.payload_hash) != (booked.key, booked.payload_hash):
            raise Found("order_payments", number, "the ledger has something else for it")


def _check_deposits(connection: Connection) -> None:
    """Each is booked as it was found, to an order with an address, and an output once."""
    of, back = order_deposits.c, ledger_transactions.alias()
    query = (
        select(
            order_deposits,
            order_addresses.c.position,
            ledger_transactions.c.idempotency_key,
            ledger_transactions.c.payload_hash,
            back.c.seq.label("back_seq"),
        )
        .outerjoin(order_addresses, order_addresses.c.order_id == of.order_id)
        .outerjoin(ledger_transactions, ledger_transactions.c.seq == of.transaction_seq)
        .outerjoin(back, back.c.reverses_seq == of.transaction_seq)
        .order_by(of.id)
    )
    parts: dict[tuple[str, int], int | None] = {}  # which is the next; None: one is in force
    for number, row in enumerate(connection.execute(query).all(), 1):
        if row.id != number:
            raise Found("order_deposits", number, "it is missing")
        if row.position is None:
            raise Found("order_deposits", number, "its order has no address")
        booked = Deposit(
            order_id=row.order_id,
            txid=row.txid,
            vout=row.vout,
            amount_sat=row.amount_sat,
            block_hash=row.block_hash,
            height=row.height,
        ).transaction(row.part)
        if (row.idempotency_key, row.payload_hash) != (booked.key, booked.payload_hash):
            raise Found("order_deposits", number, "the ledger has something else for it")
        output = row.txid, row.vout
        if row.part != parts.get(output, 0):
            raise Found("order_deposits", number, "a part is missing, or the one before is in force")
        parts[output] = None if row.back_seq is None else row.part + 1


def _check_accounts(connection: Connection) -> None:
    """What an order's account has is what its charges and payments come to."""
    balances = balances_sat(connection)
    for order_id in billing_of(connection):
        found = standing(connection, order_id, 0)
        assert found is not None
        if found.owed_sat != -balances.pop(receivable(order_id), 0):
            raise Found("ledger_accounts", receivable(order_id), "it has something else than is owed")
        for it in found.invoices:
            if it.written_off_sat > it.amount_sat:
                raise Found("order_payments", it.number, "more than its invoice is written off")
    for name, balance in balances.items():
        if name.startswith("order.") and balance:
            raise Found("ledger_accounts", name, "its order is not billed")


def _none(connection: Connection, query: Select[Any], table: str, reason: str) -> None:
    row = connection.execute(query.limit(1)).first()
    if row is not None:
        raise Found.of(table, row, reason)


def _walk(connection: Connection, query: Any) -> Iterator[Row[Any]]:
    with connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE)) as rows:
        for part in rows.partitions():
            yield from part
