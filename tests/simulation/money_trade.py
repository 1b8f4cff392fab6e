"""What persons and a pool do in a world of money but for payouts: tenants, shares, orders, energy, blocks."""

from collections.abc import Sequence
from datetime import timedelta
from fractions import Fraction
from typing import Final, TypeVar

from sqlalchemy import Connection, insert, select

from payouts.accrual import settle
from payouts.batches.rows import Act as ActOf
from payouts.batches.rows import act_of_person
from payouts.book_time import book_time, latest_s
from payouts.divisions import Header, divide, next_division, record_fund
from payouts.energy.charges import charge
from payouts.energy.dues import collect
from payouts.energy.exchange import NewExchange, add_exchange
from payouts.energy.hours import (
    ContainerEnergy,
    begin,
    due_hour,
    first_hour,
    next_hour,
    take_again,
    take_next,
)
from payouts.energy.terms import Charge, HostingTerms
from payouts.energy.terms import set_terms as set_hosting
from payouts.income import Block, Status, mark, record_block
from payouts.proof.roots import closed, due_day
from payouts.proof.roots import note as note_root
from payouts.ratebook import (
    OWN_WORK,
    WorkSource,
    blocks_of_basis,
    newest_fee_basis,
    record_fee_basis,
    record_rate,
)
from payouts.rates import BlockFees, OrderCredit, Price, Scheme, fee_basis_sat
from payouts.receipts.making_good import MakeGood, Tolerance
from payouts.receipts.rows import due_orders, made
from payouts.receipts.rows import note as note_receipts
from payouts.reversals import confirm_reversal, propose_reversal
from payouts.sales.billing import Billing
from payouts.sales.charges import charge_settled
from payouts.sales.deposits import Deposit, Seen, give_address, note_seen, recent, take_back
from payouts.sales.invoices import due_invoices, issue
from payouts.sales.payments import say_payment, say_refund, say_write_off
from payouts.sales.standing import standing
from payouts.sales.terms import BillingTerms
from payouts.sales.ways import Way
from payouts.schemas.money import blocks, containers, ledger_transactions, workers
from payouts.schemas.orders import upstreams
from payouts.schemas.sales import order_invoices
from payouts.statements.period import EPOCH
from payouts.statements.statement import statement
from payouts.tallies import ACCEPTED, Tally, record, roll_up_hours, roll_up_minutes
from pool.fleet.rows import (
    TenantTerms,
    TenantView,
    add_tenant,
    list_tenants,
    set_address,
    set_status,
    set_terms,
)
from pool.orders.rows import NewOrder, OrderView, add_order, end_order, list_orders
from pool.upstreams.rows import add_upstream
from stratum.tallies import Verdict
from tests.histories.orders import new_upstream
from tests.histories.proof import KEY
from tests.simulation.money_world import (
    BEGINS_S,
    DAY_S,
    HOUR_S,
    NETWORK,
    PERSONS,
    Acts,
    Line,
    MoneyWorld,
    Nothing,
    Wrong,
)
from tests.stages.payouts import Killed, script_of

_T = TypeVar("_T")

TENANTS: Final = ("acme", "borealis", "cinder", "dune")
SCHEMES: Final = (
    *(Scheme.PPS,) * 2,
    *(Scheme.FPPS,) * 2,
    Scheme.SOLO,
    Scheme.PPLNS2,
    Scheme.TIDES,
)
NBITS: Final = (0x17034219, 0x17021A42)
SUBSIDY_SAT: Final = 312_500_000
BASIS_BLOCKS: Final = 144
LATE_S: Final = (0, 0, 0, HOUR_S, 5 * HOUR_S, 30 * HOUR_S, 100 * HOUR_S)  # that books come behind, at most
REVERSIBLE: Final = ("settlement", "adjustment", "sale_payment", "division", "grid")
LEAP_S: Final = (60, 600, HOUR_S, HOUR_S, 2 * HOUR_S, 7 * HOUR_S, DAY_S, 3 * DAY_S, 75 * HOUR_S, -HOUR_S)
BACK_S: Final = -2 * DAY_S


class Trade:
    def __init__(self, world: MoneyWorld) -> None:
        self._world, self._chance = world, world.chance
        self._names = 0
        self._height = 600
        self._nbits = NBITS[0]
        self._deposited: dict[tuple[str, int], tuple[int, int]] = {}  # to which order, and how much

    @property
    def acts(self) -> Acts:
        return {
            "takes a tenant": (3, self._take_tenant),
            "sets an address": (2, self._set_address),
            "sets terms": (4, self._set_terms),
            "suspends or not": (2, self._set_status),
            "hears of the network": (3, self._hear_of_network),
            "books shares": (22, self._mine),
            "settles some": (6, self._settle_some),
            "settles": (8, self._settle),
            "waits and settles": (14, self._pass_hours),
            "rolls up": (1, self._roll_up),
            "books a block": (4, self._book_block),
            "divides a block": (3, self._divide),
            "has another clock": (8, self._leap),
            "sells": (3, self._sell),
            "ends an order": (1, self._end_order),
            "invoices": (4, self._invoice),
            "says a payment": (4, self._say_payment),
            "writes off": (1, self._write_off),
            "gives back": (3, self._give_back),
            "sees a deposit": (4, self._see_deposit),
            "reverses": (3, self._reverse),
            "books energy": (8, self._book_energy),
            "closes days": (2, self._close_days),
            "makes receipts": (6, self._make_receipts),
            "asks for a statement": (4, self._ask_statement),
        }

    def begin(self) -> None:
        for _ in range(3):
            self._take_tenant("ann")
        self._hear_of_network("ann")

    def act(self, by: str) -> ActOf:
        return act_of_person(by, self._world.now_s)

    def until_s(self, connection: Connection) -> int:
        """Until when the books have everything."""
        return min(latest_s(connection), self._world.mined.until_s)

    # Tenants

    def _tenant(self) -> TenantView:
        return self._chance.choice(self._world.read(list_tenants))

    def _take_tenant(self, by: str) -> None:
        world, chance = self._world, self._chance
        known = {it.name for it in world.read(list_tenants)}
        name = chance.choice([it for it in TENANTS if it not in known] or TENANTS)
        terms = TenantTerms(
            scheme=Scheme.PPS,
            fee_bps=chance.choice((0, 100, 250)),
            payout_minimum_sat=chance.choice((0, 1_000, 200_000)),
        )
        address = self._address() if chance.random() < 0.8 else None

        def take(connection: Connection) -> None:
            it = add_tenant(
                connection, name, terms, by=by, now_s=world.now_s, address=address, network=NETWORK
            )
            of = {"id": it.id, "tenant_id": it.id}
            connection.execute(insert(containers).values(**of, name="c01", created_at_s=0))
            seen = {"container_id": it.id, "unit": "u1", "first_seen_at_s": 0, "last_seen_at_s": 0}
            connection.execute(insert(workers).values(**of, **seen))

        world.write(take)

    def _address(self) -> str:
        known = sorted(self._world.addresses)
        if known and self._chance.random() < 0.15:
            return self._chance.choice(known)  # somebody else's, too
        self._names += 1
        new = self._world.address(self._names)
        self._world.addresses.add(new)
        return new

    def _set_address(self, by: str) -> None:
        world = self._world
        world.write(
            set_address, self._tenant().name, self._address(), network=NETWORK, by=by, now_s=world.now_s
        )

    def _set_terms(self, by: str) -> None:
        chance = self._chance
        terms = TenantTerms(
            scheme=chance.choice(SCHEMES),
            fee_bps=chance.choice((0, 33, 250, 9_999)),
            order_credit=chance.choice(list(OrderCredit)),
            payout_minimum_sat=chance.choice((0, 1, 5_000, 100_000)),
        )
        self._world.write(set_terms, self._tenant().name, terms, by=by, now_s=self._world.now_s)

    def _set_status(self, _: str) -> None:
        self._world.write(set_status, self._tenant().name, active=self._chance.random() < 0.75)

    # Shares

    def _hear_of_network(self, _: str) -> None:
        world, chance = self._world, self._chance
        self._nbits = chance.choice(NBITS)
        self._height = min(self._height + chance.randrange(3), 745)
        if chance.random() < 0.5 or world.read(newest_fee_basis) is None:
            least_sat = chance.randrange(100_000, 40_000_000)
            fees = tuple(
                BlockFees(
                    height=self._height - BASIS_BLOCKS + i, hash=self._hash(), fees_sat=least_sat + i * 7
                )
                for i in range(BASIS_BLOCKS)
            )
            world.write(record_fee_basis, fees, world.now_s)

    def _hash(self) -> str:
        return f"{self._chance.getrandbits(200):064x}"

    def _price(self, it: TenantView) -> tuple[Price, int | None]:
        """Of its work for the pool, and by which fee basis."""
        scheme, fees_sat, basis = Scheme(it.scheme), 0, None
        if scheme is Scheme.FPPS:
            basis = self._world.read(newest_fee_basis)
            assert basis is not None
            fees_sat = fee_basis_sat(self._world.read(blocks_of_basis, basis))
        price = Price(
            nbits=self._nbits,
            subsidy_sat=SUBSIDY_SAT,
            block_fees_sat=fees_sat,
            fee_bps=it.fee_bps,
            scheme=scheme,
        )
        return price, basis

    def _mine(self, _: str) -> None:
        """Minutes of machines, of now or of a while ago: the books are behind then."""
        world, chance = self._world, self._chance
        world.write(book_time, world.now_s)
        now_s = max(world.now_s, world.read(latest_s))
        lines = [
            line
            for _ in range(chance.randrange(1, 4))
            if (line := self._line(self._tenant(), now_s)) is not None
        ]
        if not lines:
            return
        number = len(world.mined.batches) + 1
        tallies = [
            Tally(
                worker_id=it.tenant_id,
                rate_id=it.rate_id,
                minute=it.minute,
                difficulty_log2=it.difficulty_log2,
                verdict=it.verdict,
                shares=it.shares,
                undelivered=it.undelivered,
            )
            for it in lines
        ]
        world.mined.batches.append(tuple(lines))
        world.mined.until_s = max(world.mined.until_s, min(it.minute for it in lines) * 60)
        try:
            world.write(record, "pool", number, tallies)
        except Killed:
            with world.nobody_is_killed():  # the journal has them, and gives them again
                world.write(record, "pool", number, tallies)
            raise

    def _line(self, of: TenantView, now_s: int) -> Line | None:
        """None: what was drawn is over."""
        world, chance = self._world, self._chance
        source, least_s = OWN_WORK, world.mined.until_s
        price, basis = self._price(of)
        sold = (
            chance.choice(orders) if (orders := world.read(list_orders)) and chance.random() < 0.5 else None
        )
        if sold is not None:
            if not sold.from_s <= now_s <= (sold.ended_at_s or sold.until_s) + HOUR_S:
                return None
            source, least_s = WorkSource(1, sold.id), max(least_s, sold.from_s)
            price, basis = _of_order(price, basis, of, sold)
        elif price.scheme is Scheme.SOLO:
            source = WorkSource(solo=True)
        rate = world.write(record_rate, of.id, price, self._height, basis, world.now_s, source)
        late_s = chance.choice(LATE_S)
        at_s = now_s - (chance.randrange(late_s) if late_s else 0)
        verdict = chance.choice((*(ACCEPTED,) * 4, int(Verdict.STALE)))
        return Line(
            tenant_id=of.id,
            price=price,
            order_id=None if sold is None else sold.id,
            rate_id=rate,
            minute=min(max(at_s, least_s), now_s) // 60,
            difficulty_log2=chance.choice((24, 28, 32)),
            verdict=verdict,
            shares=chance.randrange(1, 300),
            undelivered=sold is not None and verdict == ACCEPTED and chance.random() < 0.1,
        )

    # The pool's own work

    def _settle_some(self, _: str) -> None:
        for _settlements in range(self._chance.randrange(1, 4)):
            self._world.write(self._settle_once)

    def _settle_once(self, connection: Connection) -> bool:
        at_s = book_time(connection, self._world.now_s)
        done = settle(connection, at_s)
        charge_settled(connection, done, at_s)
        return bool(done)

    def _settle(self, _: str) -> None:
        while self._world.write(self._settle_once):
            pass

    def settle(self) -> None:
        self._settle("")

    def _pass_hours(self, by: str) -> None:
        for _ in range(2):
            self._mine(by)
        self._world.now_s += self._chance.choice((2, 3, 5, 30)) * HOUR_S
        self._settle(by)

    def _leap(self, _: str) -> None:
        step_s = BACK_S if self._chance.random() < 0.03 else self._chance.choice(LEAP_S)
        self._world.now_s += step_s + self._chance.randrange(50)

    def _roll_up(self, _: str) -> None:
        self._world.write(roll_up_minutes, self._world.now_s)
        self._world.write(roll_up_hours, self._world.now_s)

    def _close_days(self, _: str) -> None:
        while (day := self._world.read(due_day)) is not None:
            self._world.write(note_root, self._world.read(closed, KEY, day))

    def _make_receipts(self, _: str) -> None:
        until = self._world.read(self.until_s) // HOUR_S
        for order in self._world.read(due_orders, until, again=True):
            new = self._world.read(made, order, until, KEY)
            if new:
                self._world.write(note_receipts, order, new)

    def _ask_statement(self, _: str) -> None:
        chance, until = self._chance, self._world.read(self.until_s) // DAY_S
        to = until - chance.choice((0, 0, 1, 2))
        since = max(to - chance.choice((1, 1, 2, 40)), BEGINS_S // DAY_S)
        if since >= to:
            raise Nothing
        name, days = self._tenant().name, (EPOCH + timedelta(since), EPOCH + timedelta(to))
        found = self._world.read(statement, name, *days).content_hash
        if self._world.mined.statements.setdefault((name, since, to), found) != found:
            raise Wrong("a statement of days that are over changed", f"{name} {days}")

    def close(self) -> None:
        """As a pool does that goes on."""
        self._close_days("")
        self._make_receipts("")
        self._invoice("")

    # Blocks

    def _book_block(self, _: str) -> None:
        world, chance = self._world, self._chance
        known = world.read(lambda it: it.scalars(select(blocks.c.hash).order_by(blocks.c.hash)).all())
        if known and chance.random() < 0.7:
            status = chance.choice((Status.PENDING, Status.MATURED, Status.MATURED, Status.ORPHANED))
            world.write(mark, chance.choice(known), status, world.now_s)
            return
        of, income_sat = self._tenant(), chance.randrange(1, 320_000_000)
        block = Block(
            hash=self._hash(),
            height=self._height,
            income_sat=income_sat,
            worker_id=of.id,
            found_at_s=world.now_s,
        )
        header = Header(nbits=self._nbits, at_s=world.now_s - chance.randrange(4_000))
        fund = chance.choice((None, Scheme(of.scheme)))

        def book(connection: Connection) -> None:
            record_block(connection, block, world.now_s)
            record_fund(connection, block.hash, of.id, header, fund)

        world.write(book)

    def _divide(self, _: str) -> None:
        it = self._world.read(lambda connection: next_division(connection, self.until_s(connection)))
        if it is not None:
            self._world.write(divide, it, self._world.now_s)

    # Orders

    def _sell(self, by: str) -> None:
        world, chance = self._world, self._chance
        if not world.read(lambda it: it.scalar(select(upstreams.c.id))):
            world.write(add_upstream, new_upstream(), by=by, now_s=world.now_s)
        self._names += 1
        good = MakeGood.NONE if chance.random() < 0.7 else chance.choice(list(MakeGood))
        due_days, stop_days = chance.choice((0, 1, 14)), chance.choice((None, 0, 3))
        if good is not MakeGood.NONE:
            stop_days = None
        billings = [
            BillingTerms(billing=Billing.DAILY, due_days=due_days, stop_days=stop_days),
            BillingTerms(billing=Billing.WEEKLY, due_days=1),
            BillingTerms(billing=Billing.MONTHLY),
        ]
        if good is MakeGood.NONE:
            billings += [BillingTerms(billing=Billing.DAILY, prepaid=True), BillingTerms()]
        new = NewOrder(
            name=f"order-{self._names}",
            buyer=chance.choice(("blue", "green")),
            upstream="north",
            hashrate_ths=1_000,
            tolerance_bps=200,
            from_s=world.now_s + chance.choice((0, 600, 2 * HOUR_S)),
            until_s=world.now_s + chance.choice((7, 32, 202)) * HOUR_S,
            priority=50,
            sat_per_ph_day=chance.choice((4_500, 61_000)),
            tenants=(self._tenant().name,),
            containers=(),
            billing=chance.choice(billings),
            make_good=good,
            tolerances=() if good is MakeGood.NONE else (Tolerance(500, chance.choice((1, 24))),),
            extension_h=chance.choice((1, 30)) if good is MakeGood.EXTENSION else 0,
        )
        world.write(add_order, new, by=by, now_s=world.now_s)

    def _order(self) -> OrderView:
        return self._chance.choice(some(self._world.read(list_orders)))

    def _end_order(self, by: str) -> None:
        self._world.write(end_order, self._order().name, by=by, now_s=self._world.now_s)

    def _invoice(self, _: str) -> None:
        world = self._world
        until_s = world.read(self.until_s)
        for due in world.read(due_invoices, until_s):
            world.write(issue, due.order_id, until_s, world.now_s)

    def _two(self) -> list[str]:
        return self._chance.sample(PERSONS, 2)

    def _txids(self) -> str:
        return " ".join(sorted({txid[:8] for txid, _ in self._deposited}))[:200]

    def _say_payment(self, _: str) -> None:
        world, chance, it = self._world, self._chance, self._order()
        owes = world.read(standing, it.id, world.now_s)
        owed_sat = 1 if owes is None else max(1, owes.owed_sat)
        sat = chance.choice((owed_sat, owed_sat * 2, 100_000, chance.randrange(1, 1_000_000)))
        reference, way = f"reference {chance.randrange(12)}", chance.choice((None, *Way))
        for by in self._two()[: chance.choice((1, 2, 2, 2))]:
            world.write(
                say_payment, it.id, sat, reference, f"paid {self._txids()}".strip(), self.act(by), way=way
            )

    def _write_off(self, _: str) -> None:
        numbers = self._world.read(lambda it: it.scalars(select(order_invoices.c.number)).all())
        number = self._chance.choice(some(sorted(numbers)))
        for by in self._two():
            self._world.write(say_write_off, number, "gone", self.act(by))

    def _give_back(self, _: str) -> None:
        world, it = self._world, self._order()
        owes = world.read(standing, it.id, world.now_s)
        if owes is None or owes.owed_sat >= 0:
            raise Nothing
        sat = self._chance.choice((-owes.owed_sat, 1, max(1, -owes.owed_sat // 2)))
        to = self._tenant()
        for by in self._two():
            world.write(say_refund, it.id, sat, to.id, f"too much {self._txids()}".strip(), self.act(by))

    def _see_deposit(self, by: str) -> None:
        """A coin at an order's own address, in a block; or that block is gone again."""
        world, chance = self._world, self._chance
        there = world.read(recent, 0)
        if there and chance.random() < 0.35:
            world.write(take_back, chance.choice(there)[0], world.now_s)
            return

        def derive(position: int) -> tuple[str, bytes]:
            address = world.address(f"deposit {position}")
            return address, script_of(address)

        order = self._order()
        world.write(give_address, order.id, derive, by=by, now_s=world.now_s)
        coin, of = (self._hash(), chance.randrange(2)), (order.id, chance.choice((500, 10_000, 350_000)))
        if self._deposited and chance.random() < 0.3:
            coin = chance.choice(sorted(self._deposited))
            of = self._deposited[coin]
        self._deposited[coin] = of
        block = self._hash()
        deposit = Deposit(
            order_id=of[0],
            txid=coin[0],
            vout=coin[1],
            amount_sat=of[1],
            block_hash=block,
            height=self._height,
        )
        world.write(note_seen, Seen(self._height, block), (deposit,), world.now_s)

    def _reverse(self, by: str) -> None:
        of = ledger_transactions.c
        there = select(of.seq).where(of.kind.in_(REVERSIBLE)).order_by(of.seq)
        seq = self._chance.choice(some(self._world.read(lambda it: it.scalars(there).all())))
        proposal = self._world.write(propose_reversal, seq, "wrong", self.act(by))
        self._world.write(confirm_reversal, seq, proposal.id, self.act(self._chance.choice(PERSONS)))

    # Energy

    def _book_energy(self, by: str) -> None:
        world, chance, what = self._world, self._chance, self._chance.randrange(6)
        world.write(begin, world.now_s)
        if what == 0:
            terms = chance.choice(
                (
                    HostingTerms(
                        charge=Charge.FEE, fee_micro=chance.choice((40_000, 1_000_000)), currency="USD"
                    ),
                    HostingTerms(charge=Charge.TARIFF),
                    HostingTerms(),
                )
            )
            from_s = chance.choice((None, (world.now_s // HOUR_S + chance.choice((-3, 1, 2, 40))) * HOUR_S))
            world.write(set_hosting, self._tenant().id, terms, by=by, now_s=world.now_s, from_s=from_s)
        elif what == 1:
            new = NewExchange(
                currency="USD",
                sat=Fraction(chance.randrange(500, 3_000)),
                from_s=max(0, world.now_s + chance.choice((-5, 0, 5)) * HOUR_S),
                source="x",
            )
            world.write(add_exchange, new, by=by, now_s=world.now_s)
        elif what == 2:
            hour = world.read(due_hour, world.now_s)
            if hour is not None:
                world.write(take_next, hour, self._drawn(), world.now_s)
        elif what == 3:
            first, after = world.read(first_hour), world.read(next_hour)
            if after > first:
                world.write(take_again, chance.randrange(first, after), self._drawn(), world.now_s)
        elif what == 4:
            world.write(charge, world.now_s)
        else:
            world.write(collect, world.now_s)

    def _drawn(self) -> list[ContainerEnergy]:
        chance = self._chance
        there = self._world.read(
            lambda it: it.scalars(select(containers.c.id).order_by(containers.c.id)).all()
        )
        return [
            ContainerEnergy(
                container_id=it,
                metered_j=chance.choice((0, 3_600_000, 360_000_000)),
                estimated_j=chance.choice((0, 1_000)),
            )
            for it in there
            if chance.random() < 0.8
        ]


def some(of: Sequence[_T]) -> Sequence[_T]:
    """Raises Nothing where there is none."""
    if not of:
        raise Nothing
    return of


def _of_order(price: Price, basis: int | None, of: TenantView, sold: OrderView) -> tuple[Price, int | None]:
    """What the tenant gets for work that is sold: the order's price, or what the pool pays, at its risk."""
    by_order = of.order_credit == OrderCredit.ORDER
    scheme = price.scheme if price.scheme is Scheme.FPPS else Scheme.PPS
    basis = None if by_order or scheme is Scheme.PPS else basis
    return (
        Price(
            nbits=price.nbits,
            subsidy_sat=price.subsidy_sat,
            block_fees_sat=0 if basis is None else price.block_fees_sat,
            fee_bps=price.fee_bps,
            scheme=scheme,
            sat_per_ph_day=sold.sat_per_ph_day if by_order else None,
        ),
        basis,
    )
