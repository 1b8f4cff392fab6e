"""Judges a world of money by what was mined, what the chain has, and what was told before; and plays it.

What work is worth is worked out here, from the targets that were mined at. What a tenant was credited is that
and no more at any moment, and that to the last of 10^-12 satoshi when all is settled; what was paid is on the
chain; every account is the sum of what it is made of; nothing that was said of days that are over changes;
and `angara_verify` finds nothing in any file that is given away.
"""

import json
from collections import Counter, defaultdict
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import trio
from sqlalchemy import Connection, func, select
from structlog.testing import capture_logs

from payouts.accrual import carry_of
from payouts.batches.batch import State, batches_in
from payouts.book_time import latest_s
from payouts.energy.dues import dues_sat
from payouts.ledger import balance_sat, balances_sat, in_payout, payable
from payouts.proof.angara_verify import as_written
from payouts.proof.evidence import proof_of
from payouts.proof.key_changes import changes_of_keys
from payouts.proof.roots import roots
from payouts.rates import Price, Scheme
from payouts.receipts.rows import receipts
from payouts.reports.payouts import payouts_report
from payouts.reports.pool import pool_report
from payouts.sales.invoices import invoice
from payouts.sales.invoices import proof_of as proof_of_invoice
from payouts.sales.receivables import Age, receivables
from payouts.sales.standing import standings
from payouts.schemas.money import settlements
from payouts.schemas.sales import order_invoices
from payouts.statements.period import EPOCH, Period
from payouts.statements.statement import statement
from payouts.tallies import ACCEPTED
from pool.books.audit.verify import verify
from pool.cli.bookkeeping.proof import with_changes
from pool.fleet.rows import list_tenants
from pool.orders.rows import find_order, list_orders
from pool.reports.invoice_document import invoice_document
from pool.reports.render_json import render_json
from pool.reports.statement_document import statement_document
from tests.fixtures.databases import PostgresDatabases
from tests.histories.proof import KEY, Auditor
from tests.simulation.auditor import Found
from tests.simulation.course import course
from tests.simulation.money_payouts import Payers
from tests.simulation.money_trade import Trade
from tests.simulation.money_world import BEGINS_S, DAY_S, HOUR_S, MoneyWorld, Wrong
from tests.stages.payouts import script_of

GRACE_S: Final = 60
PSAT: Final = 10**12
ORDERS: Final = "order."  # accounts of what buyers owe begin so
BPS: Final = 10_000
DIFFICULTY_1: Final = 0xFFFF << 208
# 2^48 / 65,535 hashes are work of difficulty 1 (the target of which is 0xFFFF << 208); a PH-day is so many.
HASHES_OF_1: Final = Fraction(1 << 48, 65_535)
PH_DAY: Final = 10**15 * 86_400
SUMS: Final = ("credits_sat", "payouts_sat", "adjustments_sat", "energy_sat", "divided_sat", "grid_sat")
LATER_DAYS: Final = 400  # past all that is played
DEEP_EVERY: Final = 10  # rounds
NOT_CREDITED: Final = "are credited neither there nor here"


class MoneyAuditor:
    def __init__(self, world: MoneyWorld, trade: Trade) -> None:
        self._world, self._trade = world, trade
        self._looks = 0

    # Behind each round

    def look(self) -> None:
        self._looks += 1
        with self._world.book.store.read() as connection:
            _accounts_add_up(connection, self._world.now_s)
            self._credits(connection, whole=False)
            if self._looks % DEEP_EVERY == 0:
                self._deep(connection)

    def settled(self) -> None:
        """When nothing is left to settle."""
        self._trade.settle()
        with self._world.book.store.read() as connection:
            self._credits(connection, whole=True)

    def at_rest(self) -> None:
        """When all payouts have ended."""
        self._trade.close()
        with self._world.book.store.read() as connection:
            _accounts_add_up(connection, self._world.now_s)
            self._chain(connection)
            self._deep(connection)
            self._files(connection)

    def _deep(self, connection: Connection) -> None:
        found = verify(connection)
        if found.wrong is not None:
            raise Wrong("the audit finds", found.wrong)
        for (name, since, to), known in self._world.mined.statements.items():
            days = EPOCH + timedelta(since), EPOCH + timedelta(to)
            if statement(connection, name, *days).content_hash != known:
                raise Wrong("a statement of days that are over changed", f"{name} {days}")
        known_invoices = self._world.mined.invoices
        for number in connection.scalars(select(order_invoices.c.number)).all():
            now = invoice(connection, number).content_hash
            if known_invoices.setdefault(number, now) != now:
                raise Wrong("an invoice changed", number)

    # Credits

    def _credits(self, connection: Connection, *, whole: bool) -> None:
        due_hour = (latest_s(connection) - GRACE_S) // HOUR_S
        due, all_of = defaultdict[int, Fraction](Fraction), defaultdict[int, Fraction](Fraction)
        sold = defaultdict[int, Fraction](Fraction)
        for it in (line for batch in self._world.mined.batches for line in batch):
            if it.verdict != ACCEPTED:
                continue
            worth = _worth(it.price, it.difficulty_log2) * it.shares * (BPS - it.price.fee_bps) / BPS
            all_of[it.tenant_id] += worth
            if it.minute // 60 < due_hour:
                due[it.tenant_id] += worth
                if it.order_id is not None and not it.undelivered:
                    sold[it.order_id] += _ph_days(it.difficulty_log2) * it.shares
        rows = connection.execute(
            select(
                settlements.c.tenant_id,
                func.sum(settlements.c.posted_sat).label("sat"),
                func.count().label("parts"),
            ).group_by(settlements.c.tenant_id)
        ).all()
        credited = {
            row.tenant_id: int(row.sat) + Fraction(carry_of(connection, row.tenant_id).credit_psat, PSAT)
            for row in rows
        }
        parts = {row.tenant_id: row.parts for row in rows}
        for tenant in {*all_of, *credited}:
            have = credited.get(tenant, Fraction(0))
            if have > all_of[tenant]:
                raise Wrong(
                    "more is credited than was mined", f"tenant {tenant}: {have} for {all_of[tenant]}"
                )
            if whole and not 0 <= due[tenant] - have <= Fraction(parts.get(tenant, 0), PSAT):
                raise Wrong(
                    "work is not credited", f"tenant {tenant}: {float(have)} for {float(due[tenant])}"
                )
        if whole:
            self._charges(connection, sold)

    def _charges(self, connection: Connection, sold: dict[int, Fraction]) -> None:
        """Of orders whose shortfalls nobody makes good: what was delivered at their price."""
        orders = {it.id: it for it in list_orders(connection)}
        for it in standings(connection, self._world.now_s):
            order = orders[it.order_id]
            charged = it.charged_sat + Fraction(it.carry_psat, PSAT)
            owed = sold.get(order.id, Fraction(0)) * order.sat_per_ph_day
            if order.make_good == "none" and abs(charged - owed) >= Fraction(1, 10**6):
                raise Wrong(
                    "a buyer is charged otherwise", f"{order.name}: {float(charged)} for {float(owed)}"
                )

    # Payouts

    def _chain(self, connection: Connection) -> None:
        there, booked = Counter[str](), Counter[str]()
        addresses = {script_of(it): it for it in self._world.addresses}
        for coin in self._world.payouts.chain.coins.values():
            if coin.script in addresses:
                there[addresses[coin.script]] += coin.amount_sat
        for batch in batches_in(connection):
            if batch.state is State.FINAL:
                booked.update({it.address: 0 for it in batch.items})
                for it in batch.items:
                    booked[it.address] += it.amount_sat
        if +there != +booked:
            raise Wrong(
                "the chain paid what the books have not", f"{dict(there - booked)} {dict(booked - there)}"
            )
        overpaid_sat = balances_sat(connection).get("pool.overpaid", 0)
        if overpaid_sat and not self._world.was_put_back:
            raise Wrong("more is paid than is owed", overpaid_sat)

    # Files

    def _files(self, connection: Connection) -> None:
        until = min(latest_s(connection), self._world.mined.until_s) // DAY_S
        first, last = EPOCH + timedelta(BEGINS_S // DAY_S), EPOCH + timedelta(until)
        if last <= first:
            return
        auditor = Auditor(self._world.home)
        changes = msgspec.to_builtins(changes_of_keys(connection))
        published = with_changes(msgspec.to_builtins(roots(connection)), changes, "root")
        for it in list_tenants(connection):
            day = last - timedelta(1)
            before: bytes | None = None
            for since, to in ((first, day), (day, last), (first, last)):
                if since == to:
                    continue
                of = statement(connection, it.name, since, to)
                proof = proof_of(connection, of, KEY)
                proved: dict[str, Any] = (
                    {"key": None} if proof is None else {"roots": published, "key": KEY.public.hex()}
                )
                file = render_json(statement_document(of, proof))
                _, found = auditor.found(file, previous=before, **proved)
                # Here shares of an hour are booked days apart; a pool dates what comes so late anew.
                wrong = [it for it in found if not it.endswith(NOT_CREDITED)]
                if wrong:
                    raise Wrong("a statement does not prove itself", f"{it.name} {since} {to}: {wrong[:2]}")
                before = file if proof is not None and to == day else None
            _days_add_up(connection, it.name, (last - first).days)
            self._paid(connection, it.name, it.id, Period(first, last + timedelta(LATER_DAYS)))
        pool_report(connection, Period(first, last))
        self._invoiced(connection, auditor)

    def _paid(self, connection: Connection, name: str, tenant_id: int, period: Period) -> None:
        """A statement says what it sums, what the report of payouts says, and what the ledger has."""
        of = statement(connection, name, period.from_day, period.to_day)
        reported = sum(
            item.amount_sat
            for batch in payouts_report(connection, period).batches
            if batch.state == "final"
            for item in batch.items
            if item.tenant == name
        )
        if not sum(it.booked_sat for it in of.payouts) == of.money.payouts_sat == reported:
            raise Wrong("a statement and the report differ", f"{name}: {of.money.payouts_sat}, {reported}")
        if of.money.closing_payable_sat != balance_sat(connection, payable(tenant_id)):
            raise Wrong("a statement does not end with what is owed", name)

    def _invoiced(self, connection: Connection, auditor: Auditor) -> None:
        before = defaultdict[str, list[bytes]](list)
        numbers = connection.scalars(select(order_invoices.c.number).order_by(order_invoices.c.number)).all()
        for number in numbers:
            it = invoice(connection, number)
            chain = msgspec.to_builtins(receipts(connection, find_order(connection, it.order).id))
            against = as_written(json.loads(json.dumps(chain))) if chain else None
            if against is not None and (wrong := auditor.found(against)[1]):
                raise Wrong("receipts do not prove themselves", f"{it.order}: {wrong[:2]}")
            data = render_json(invoice_document(it, proof_of_invoice(it, KEY)))
            _, wrong = auditor.found(data, previous=before[it.order] or None, against=against)
            if wrong:
                raise Wrong("an invoice does not prove itself", f"{number} of {it.order}: {wrong[:2]}")
            before[it.order].append(data)


def _worth(price: Price, difficulty_log2: int) -> Fraction:
    """What a share is paid, before the fee; nothing where a block is divided, or pays its owner."""
    if price.scheme not in (Scheme.PPS, Scheme.FPPS):
        return Fraction(0)
    if price.sat_per_ph_day is not None:
        return _ph_days(difficulty_log2) * price.sat_per_ph_day
    target = (price.nbits & 0xFFFFFF) << 8 * ((price.nbits >> 24) - 3)
    is_block = min(Fraction(1), Fraction(2) ** difficulty_log2 * target / DIFFICULTY_1)
    return is_block * (price.subsidy_sat + (price.block_fees_sat if price.scheme is Scheme.FPPS else 0))


def _ph_days(difficulty_log2: int) -> Fraction:
    return Fraction(2) ** difficulty_log2 * HASHES_OF_1 / PH_DAY


def _accounts_add_up(connection: Connection, now_s: int) -> None:
    balances, held_sat = balances_sat(connection), Counter[int]()
    if sum(balances.values()):
        raise Wrong("accounts do not add up", sum(balances.values()))
    for batch in batches_in(connection):
        if batch.state not in (State.FINAL, State.FAILED):
            for item in batch.items:
                held_sat[item.tenant_id] += item.amount_sat
    for it in list_tenants(connection):
        if balances.get(in_payout(it.id), 0) != held_sat[it.id]:
            raise Wrong("what is in payout is not in batches", f"{it.name}: {held_sat[it.id]}")
        if balances.get(payable(it.id), 0) < 0:
            raise Wrong("a tenant owes the pool", it.name)
    aged = receivables(standings(connection, now_s), now_s).sat
    owed_sat = sum(sat for age, sat in aged.items() if age is not Age.ADVANCE) - aged[Age.ADVANCE]
    booked_sat = -sum(sat for account, sat in balances.items() if account.startswith(ORDERS))
    if owed_sat != booked_sat:
        raise Wrong("what buyers owe is not in the ledger", f"{owed_sat}, {booked_sat}")
    if sum(dues_sat(connection).values()) != -balances.get("pool.energy_due", 0):
        raise Wrong("what is due for energy is not in the ledger", balances.get("pool.energy_due", 0))


def _days_add_up(connection: Connection, name: str, days: int) -> None:
    first = EPOCH + timedelta(BEGINS_S // DAY_S)
    whole = statement(connection, name, first, first + timedelta(days)).money
    opening_sat, sums = 0, Counter[str]()
    for day in range(days):
        it = statement(connection, name, first + timedelta(day), first + timedelta(day + 1)).money
        if it.opening_sat != opening_sat:
            raise Wrong("a day does not begin where the last one ended", f"{name}, day {day}")
        opening_sat = it.closing_sat
        sums.update({what: getattr(it, what) for what in SUMS})
    for what in SUMS:
        if sums[what] != getattr(whole, what):
            raise Wrong("days are not their sum", f"{name}: {what}")


class Played(msgspec.Struct, frozen=True):
    """`found` is what was wrong first, None where nothing was; `course` and `done` are the world's."""

    found: Found | None
    course: list[str]
    done: Counter[str]


def play_money(seed: int, postgres: PostgresDatabases | None = None) -> Played:
    """Live the world of a seed; with a server its book is there, or comes there."""
    worlds: list[MoneyWorld] = []

    async def live() -> None:
        world = MoneyWorld(seed, Path(home), clock, postgres)
        worlds.append(world)
        trade, payers = Trade(world), Payers(world)
        trade.begin()
        await world.live(trade.acts | payers.acts, MoneyAuditor(world, trade), payers.rest)

    found = None
    with TemporaryDirectory() as home, course(seed) as (clock, _), capture_logs():
        try:
            trio.run(live, clock=clock.trio)
        except (Wrong, BaseExceptionGroup) as ended:
            found = _wrong(ended).found
    (world,) = worlds
    return Played(found, world.course, world.done)


def _wrong(ended: BaseException) -> Wrong:
    """The first one; raises what is none."""
    if isinstance(ended, Wrong):
        return ended
    if isinstance(ended, BaseExceptionGroup):
        for it in ended.exceptions:
            return _wrong(it)
    raise ended
