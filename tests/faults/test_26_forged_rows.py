"""A forged row of every kind, in every table: `ledger verify` names it.

The book is written by the functions that a pool uses; then somebody with all rights, triggers and foreign
keys switched off, changes one thing. A table that is new has no forger here, and the first test is red.
"""

# ruff: noqa: S608 - these statements are a forger's

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, func, insert, select, text

import payouts.schemas.power  # noqa: F401 - its tables
import pool.power.control.schema
import pool.power.curtailment.schema  # noqa: F401 - its tables
from payouts.accrual import settle
from payouts.audit.verify import Audit
from payouts.batches.batch import Item
from payouts.batches.plan import Plan, digest
from payouts.batches.rows import Act
from payouts.batches.steps import approve, attempt, confirm, draft, finish, give, send, sign
from payouts.divisions import Header, divide, next_division, record_fund
from payouts.energy.carbon import Method, NewCarbon, add_carbon
from payouts.energy.charges import charge
from payouts.energy.dues import collect
from payouts.energy.events import Event, EventBooks, EventPart, book_event
from payouts.energy.exchange import NewExchange, add_exchange
from payouts.energy.grid import NewPayment, add_payment
from payouts.energy.hours import ContainerEnergy, take_next
from payouts.energy.hours import begin as take_energy
from payouts.energy.tariffs import Kind as TariffKind
from payouts.energy.tariffs import NewTariff, add_tariff
from payouts.energy.terms import Charge, HostingTerms
from payouts.energy.terms import set_terms as set_hosting
from payouts.income import Block, Status, mark, record_block
from payouts.ledger import Kind, PoolAccount, Transaction, Transfer, balances_sat, payable, post
from payouts.proof import closings
from payouts.proof.key import ProofKey
from payouts.proof.key_changes import due_key_change, note_key_change
from payouts.proof.reserves import note as note_reserve
from payouts.proof.roots import closed, due_day, note
from payouts.proof.share_tree import Share, packed
from payouts.ratebook import record_fee_basis
from payouts.rates import BlockFees, OrderCredit, Scheme
from payouts.receipts.making_good import MakeGood, Tolerance
from payouts.receipts.rows import made
from payouts.receipts.rows import note as note_receipts
from payouts.reversals import confirm_reversal, propose_reversal
from payouts.sales.billing import Billing
from payouts.sales.charges import charge_settled
from payouts.sales.deposits import Deposit, Seen, give_address, note_seen
from payouts.sales.invoices import issue
from payouts.sales.payments import say_payment, say_write_off
from payouts.sales.terms import BillingTerms
from payouts.schemas.money import containers, ledger_transactions, metadata, settlements, workers
from payouts.schemas.orders import upstream_days, upstream_hours
from payouts.schemas.proof import share_parts
from payouts.tallies import Tally, record
from pool.books.audit.verify import verify
from pool.books.book import bind
from pool.books.changes.changes import note_change
from pool.books.edges.leases import Asked, begin
from pool.books.edges.rows import EdgePlace, add_edge
from pool.books.edges.rows import kept_of as kept_of_edge
from pool.books.journal.hour_rows import note_hours
from pool.books.journal.hours import Hour
from pool.books.journal.positions import Position, write_position
from pool.books.journal.rate_epochs import WorkPrice, rate_of
from pool.books.journal.schema import upstream_credits, upstream_tips
from pool.books.store import Store
from pool.chain.addresses import script_for
from pool.chain.networks import NETWORKS
from pool.fleet.rows import TenantTerms, add_tenant
from pool.journal.frames import Place
from pool.orders.rows import add_order, note_event, note_minute
from pool.people.roles import host_account
from pool.people.tokens import create_token, kept_of
from pool.people.users import add_user
from pool.requests.rows import Said, add_request, find_request, said, subject_of
from pool.requests.rows import approve as approve_request
from pool.requests.rows import kept_of as kept_of_request
from pool.upstreams.rows import add_upstream
from stratum.tallies import Verdict
from tests.fixtures.databases import Databases, disarm, fresh_store
from tests.histories.orders import new_order, new_upstream
from tests.histories.proof import KEY
from tests.histories.reserves import Vault
from tests.stages.batches import Treasury
from tests.stages.prices import open_epoch
from tests.stages.site_journal import new_nkey

HOUR, NOW_S = 496_000, 496_000 * 3600
ACME, BOREALIS, CITADEL = 1, 2, 3
ACME_ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
BOREALIS_ADDRESS = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"
CITADEL_ADDRESS = "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6"
OWN = WorkPrice(nbits=0x207FFFFF, subsidy_sat=50 * 10**8, fee_basis_id=1)
TERMS = TenantTerms(scheme=Scheme.FPPS, fee_bps=200, payout_minimum_sat=0, order_credit=OrderCredit.ORDER)
ANN, BOB = Act("ann", NOW_S + 8000), Act("bob", NOW_S + 8001)
BLOCK, DIVIDED, PAID_IN, TARGET = "ab" * 32, "ef" * 32, "cd" * 32, "00" * 28 + "ff" * 4
YOUNG = "12" * 32  # it will be divided


@pytest.fixture(scope="module")
def books(databases: Databases) -> Iterator[Store]:
    """Three tenants whose machines worked for the pool and for an order, were paid, and found two blocks, of
    which one is divided."""
    with fresh_store(databases) as store:
        live(store)
        yield store


def live(store: Store) -> None:
    """A row in every table."""
    bind(store, "regtest")
    with store.write() as connection:
        register(connection)
        work(connection)
        block = Block(hash=BLOCK, height=5, income_sat=50, worker_id=100, found_at_s=NOW_S + 7500)
        record_block(connection, block, NOW_S + 7500)
        mark(connection, BLOCK, Status.PENDING, NOW_S + 7600)
        find_and_divide(connection)
        settled = ledger_transactions.c.kind == Kind.SETTLEMENT.value
        mistake = connection.scalar(select(func.max(ledger_transactions.c.seq)).where(settled))
        assert mistake is not None
        proposal = propose_reversal(connection, mistake, "a mistake", ANN)
        confirm_reversal(connection, mistake, proposal.id, BOB)
    pay(store)
    with store.write() as connection:
        draw(connection)
        bill(connection)
    with store.write() as connection:
        assert note_receipts(connection, 1, made(connection, 1, HOUR + 2, KEY))
        day = due_day(connection)
        assert day is not None
        root = closed(connection, KEY, day)
        assert note(connection, root)
        assert note_reserve(connection, Vault().reserve(root), "ann", NOW_S + 9000)
    with store.write() as connection:
        keep_shares(connection)
        change = due_key_change(connection, ProofKey(bytes(31) + b"\5", former=(KEY,)))
        assert change is not None
        assert note_key_change(connection, change)


def find_and_divide(connection: Connection) -> None:
    block = Block(hash=DIVIDED, height=6, income_sat=5_000, worker_id=300, found_at_s=NOW_S + 7600)
    record_block(connection, block, NOW_S + 7600)
    assert record_fund(connection, DIVIDED, 300, Header(OWN.nbits, NOW_S + 7600))
    for status in (Status.PENDING, Status.MATURED):
        mark(connection, DIVIDED, status, NOW_S + 7600)
    division = next_division(connection, NOW_S + 7600)
    assert division is not None
    (part,) = divide(connection, division, NOW_S + 7600)
    assert part.posted_sat == 4_900
    block = Block(hash=YOUNG, height=7, income_sat=5_000, worker_id=300, found_at_s=NOW_S + 7600)
    record_block(connection, block, NOW_S + 7600)
    assert record_fund(connection, YOUNG, 300, Header(OWN.nbits, NOW_S + 100)), "dated back by two hours"
    mark(connection, YOUNG, Status.PENDING, NOW_S + 7600)


def register(connection: Connection) -> None:
    for tenant_id, name, address, of_tenant in (
        (ACME, "acme", ACME_ADDRESS, TERMS),
        (BOREALIS, "borealis", BOREALIS_ADDRESS, msgspec.structs.replace(TERMS, scheme=Scheme.PPS)),
        (CITADEL, "citadel", CITADEL_ADDRESS, msgspec.structs.replace(TERMS, scheme=Scheme.PPLNS2)),
    ):
        add_tenant(connection, name, of_tenant, by="ann", now_s=NOW_S, address=address, network="regtest")
        row = {"id": tenant_id, "tenant_id": tenant_id, "name": f"c0{tenant_id}", "created_at_s": NOW_S}
        connection.execute(insert(containers).values(**row))
        row = {
            "id": tenant_id * 100,
            "tenant_id": tenant_id,
            "container_id": tenant_id,
            "unit": f"u{tenant_id}",
        }
        connection.execute(insert(workers).values(**row, first_seen_at_s=NOW_S, last_seen_at_s=NOW_S))
    add_upstream(connection, new_upstream(), by="ann", now_s=NOW_S)
    terms = BillingTerms(billing=Billing.DAILY, due_days=1)
    made_good: dict[str, Any] = {"make_good": MakeGood.CREDIT, "tolerances": (Tolerance(200, 24),)}
    sold = new_order(from_s=NOW_S, until_s=NOW_S + 10**6, billing=terms, **made_good)
    add_order(connection, sold, by="ann", now_s=NOW_S)
    vera = add_user(
        connection,
        "vera",
        "viewer",
        tenant=None,
        account="vera",
        host_names=(),
        by="ann",
        now_s=NOW_S,
    )
    made: dict[str, Any] = {"by": "ann", "source": "alone", "command": "user.add", "subject": "vera"}
    note_change(connection, **made, was=None, became=msgspec.to_builtins(vera), now_s=NOW_S)
    create_token(connection, "vera", "grafana", None, 9, by="ann", now_s=NOW_S)
    made |= {"command": "token.create"}
    kept: dict[str, Any] = dict(kept_of(connection, "vera"))
    note_change(connection, **made, was={}, became=kept, now_s=NOW_S)
    ask_for_terms(connection)
    edge = add_edge(connection, "north", new_nkey(), [EdgePlace("acme")], ths=9, by="ann", now_s=NOW_S)
    made |= {"command": "edge.add", "subject": "north"}
    note_change(connection, **made, was=None, became=kept_of_edge(edge), now_s=NOW_S)
    begin(connection, Asked(edge="north", host="h", process="p", writer="cd" * 16), Place(), NOW_S)
    for name in ("acme", "borealis"):
        change: dict[str, Any] = {
            "by": "ann",
            "source": "alone",
            "command": "tenant.add",
            "subject": name,
            "was": None,
        }
        note_change(connection, **change, became={"status": "active"}, now_s=NOW_S)


def ask_for_terms(connection: Connection) -> None:
    """A request that somebody else approved."""
    number = add_request(
        connection,
        "tenant.set-terms",
        "acme",
        params='{"name":"acme","fee_bps":50}',
        with_secrets=None,
        was={"fee_bps": 200},
        became={"fee_bps": 50},
        people=2,
        asked=said(connection, host_account("ann", "alone"), NOW_S),
        wait_s=0,
        expires_s=3600,
    ).id
    made: dict[str, Any] = {"by": "ann", "source": "alone", "subject": subject_of(number), "now_s": NOW_S}
    asked = kept_of_request(connection)[subject_of(number)]
    note_change(connection, **made, command="request.add", was=None, became=asked)
    by_vera = Said(said_by="vera", user_id=1, token_id=None, source="socket", at_s=NOW_S)
    approve_request(connection, find_request(connection, number), by_vera)
    approved = kept_of_request(connection)[subject_of(number)]
    note_change(connection, **made, command="request.approve", was=asked, became=approved)


def keep_shares(connection: Connection) -> None:
    """A share of what is settled, in a closing, and one of an hour that is not settled yet."""
    rate = connection.scalar(select(func.min(settlements.c.rate_id)))
    share = Share(bytes(80), ACME * 100, NOW_S // 60, -32)
    row = {"writer": WRITER, "booking": 1, "rate_id": rate, "from_log2": -32, "packed": packed([share])}
    connection.execute(insert(share_parts).values(**row, hour=HOUR))
    due = closings.due(connection)
    assert due is not None
    assert closings.note(connection, closings.closed(connection, KEY, *due, -32))
    connection.execute(insert(share_parts).values(**row, hour=HOUR + 1))


WRITER = "ab" * 16  # of a journal


def work(connection: Connection) -> None:
    record_fee_basis(connection, [BlockFees(height=4, hash="00" * 32, fees_sat=5_000)], NOW_S)
    sold = msgspec.structs.replace(OWN, upstream_id=1, order_id=1)
    epochs = [open_epoch(connection, price, 5, NOW_S) for price in (OWN, sold)]
    for batch, epoch in enumerate(epochs, 1):
        tallies = [
            Tally(
                worker_id=tenant_id * 100,
                rate_id=rate_of(connection, epoch, tenant_id).rate_id,
                minute=NOW_S // 60 + batch,
                difficulty_log2=-32,
                verdict=verdict,
                shares=40_000,
            )
            for tenant_id in (ACME, BOREALIS, CITADEL)
            for verdict in (Verdict.ACCEPTED, Verdict.STALE)
        ]
        assert record(connection, WRITER, batch, tallies)
    taken = Position(writer=WRITER, at=Place(7), moment_s=NOW_S, until=7, transactions=2, accepted=240_000)
    write_position(connection, taken)
    taken_hour = Hour(hour=HOUR, last=Place(7), records=7, shares={(-32, 0): 240_000, (-32, 1): 9})
    note_hours(connection, WRITER, [taken_hour])
    settled = (*settle(connection, NOW_S + 7200), *settle(connection, NOW_S + 7200))
    assert charge_settled(connection, settled, NOW_S + 7200) == (1,)
    said = {"upstream_id": 1, "verdict": "accepted", "shares": 9}
    connection.execute(insert(upstream_days).values(**said, day=HOUR // 24, worker_id=100))
    hour = {"hour": HOUR, "tenant_id": ACME, "order_id": 1, "target": TARGET, "reason": ""}
    connection.execute(insert(upstream_hours).values(**said, **hour))
    note_minute(connection, 1, HOUR, True, 2)
    note_event(connection, NOW_S + 7300, 1, 1, "served", "", 2)
    connection.execute(insert(upstream_tips).values(id=1, prevhash=BLOCK, forgotten=0))
    connection.execute(insert(upstream_credits).values(seq=1, tip_id=1, hashes=bytes(32)))


def pay(store: Store) -> None:
    treasury = Treasury(store)
    script = script_for(ACME_ADDRESS, "regtest")
    items = (
        Item(
            position=0, tenant_id=ACME, tenant="acme", address=ACME_ADDRESS, script=script, amount_sat=20_000
        ),
    )
    treasury.do(draft, Plan(items, ()), ANN)
    treasury.do(approve, 1, digest(items), 5_000, BOB)
    treasury.do(attempt, 1, *treasury.make(), 100, ANN)
    psbt = treasury.do(give, 1, 1, ANN)
    assert isinstance(psbt, bytes)
    treasury.do(sign, 1, 1, treasury.signed(psbt), ANN)
    treasury.do(send, 1, 1, ANN)
    treasury.do(confirm, 1, 1, PAID_IN, 101, NOW_S + 9000)
    treasury.do(finish, 1, PAID_IN, NOW_S + 9000)


def draw(connection: Connection) -> None:
    """Two hours of energy, one by tiers and one at the hour's own price; a curtailment that the grid paid."""
    first, at_s = HOUR + 3, NOW_S + 9000
    take_energy(connection, at_s)
    terms = HostingTerms(charge=Charge.TARIFF)
    set_hosting(connection, ACME, terms, by="ann", now_s=at_s, from_s=None)
    usual: dict[str, Any] = {"name": "dam", "currency": "USD", "source": "contract"}
    for tariff in (
        NewTariff(kind=TariffKind.TIERED, tiers={0: 50_000}, **usual),
        NewTariff(kind=TariffKind.HOURLY, hours={first: 70_000}, **usual),
    ):
        add_tariff(connection, tariff, by="ann", now_s=at_s)
    worth = NewExchange(currency="USD", sat=Fraction(1_500), from_s=at_s, source="desk")
    add_exchange(connection, worth, by="ann", now_s=at_s)
    grid = NewCarbon(
        method=Method.LOCATION, from_hour=first, until_hour=first + 2, mg_per_kwh=1, source="grid"
    )
    add_carbon(connection, [grid], by="ann", now_s=at_s)
    later_s = at_s + 4 * 3600
    for hour in (first, first + 1):
        drawn = [ContainerEnergy(container_id=ACME, metered_j=3_600_000)]
        assert take_next(connection, hour, drawn, later_s)
    assert len(charge(connection, later_s).charged) == 2
    collect(connection, later_s)
    event = Event(
        event_id=1,
        site="",
        source="cli",
        reference="call",
        asked_by="ann",
        from_s=at_s,
        ended_at_s=at_s + 3600,
        watts_asked=None,
    )
    zero = dict.fromkeys(("off_s", "watts_shed", "joules_shed", "difficulty", "forgone_psat", "error_sat"), 0)
    parts = tuple(
        EventPart(tenant_id=it, machines=1, machines_off=1, forgone_sat=it * 1_000, **zero)
        for it in (ACME, BOREALIS)
    )
    assert book_event(connection, EventBooks(event, parts), later_s)
    paid = NewPayment(event_id=1, reference="invoice", currency="SAT", amount_micro=900 * 10**6)
    add_payment(connection, paid, by="ann", now_s=later_s)


def bill(connection: Connection) -> None:
    """An invoice of the order, of which the buyer has paid a part; what is left is written off."""
    later_s = NOW_S + 10 * 86_400
    # What was delivered is worth less than a satoshi; what was sold is owed.
    assert note_receipts(connection, 1, made(connection, 1, HOUR + 1, KEY))
    assert issue(connection, 1, NOW_S + 86_400, later_s) is None, "what its hours make good is in it"
    assert note_receipts(connection, 1, made(connection, 1, (NOW_S + 86_400) // 86_400 * 24, KEY))
    assert issue(connection, 1, NOW_S + 86_400, later_s) == 1
    for act in (Act("ann", later_s), Act("bob", later_s)):
        say_payment(connection, 1, 1, "wire 7", "received", act)
    for act in (Act("ann", later_s), Act("bob", later_s)):
        said = say_write_off(connection, 1, "he is bankrupt", act)
    assert said.entry == 2
    give_address(
        connection, 1, lambda number: (f"address {number}", bytes([number])), by="ann", now_s=later_s
    )
    paid = Deposit(order_id=1, txid=PAID_IN, vout=0, amount_sat=600, block_hash=BLOCK, height=9)
    assert note_seen(connection, Seen(9, BLOCK), (paid,), later_s) == 1


# What is changed in a table, the table that is named then, and why.
FORGERS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "liability_roots": (
        (
            "UPDATE liability_roots SET total_sat = total_sat + 1",
            "liability_roots",
            "its hash is not that of its content",
        ),
        (f"UPDATE liability_roots SET root = '{'ab' * 32}'", "liability_roots", "its hash is not that"),
        (f"UPDATE liability_roots SET signature = '{'ab' * 64}'", "liability_roots", "not signed by its key"),
        (
            f"UPDATE liability_roots SET prev_hash = '{'ab' * 32}'",
            "liability_roots",
            "does not follow the one",
        ),
        ("UPDATE liability_roots SET number = 2", "reserves", "what it names in liability_roots is missing"),
    ),
    "reserves": (
        ("UPDATE reserves SET total_sat = total_sat + 1", "reserves", "its content is another reserve's"),
        ("UPDATE reserves SET number = 2", "reserves", "its content is another reserve's"),
        ("UPDATE reserves SET content = '{}'", "reserves", "its content cannot be read"),
        ("UPDATE reserves SET content = replace(content, '900123', '900124')", "reserves", "its hash is not"),
        (
            "UPDATE reserves SET content = replace(content, '1024', '2048')",
            "reserves",
            "is none of these books",
        ),
        ("UPDATE reserves SET root_number = 2", "reserves", "is missing"),
    ),
    "key_changes": (
        (f"UPDATE key_changes SET key = '{'ab' * 32}'", "key_changes", "its hash is not that"),
        (f"UPDATE key_changes SET signature = '{'ab' * 64}'", "key_changes", "not signed by its keys"),
        (f"UPDATE key_changes SET former_signature = '{'ab' * 64}'", "key_changes", "not signed by its keys"),
        ("UPDATE key_changes SET former_signature = ''", "key_changes", "not signed by its keys"),
        ("UPDATE key_changes SET lost = 1", "key_changes", "its hash is not that"),
        ("UPDATE key_changes SET number = 2", "key_changes", "does not follow the one"),
    ),
    "order_receipts": (
        ("UPDATE order_receipts SET bill_sat = bill_sat + 1", "order_receipts", "bills something else"),
        ("UPDATE order_receipts SET hour = hour + 9", "order_receipts", "another number or hour"),
        ("UPDATE order_receipts SET content = '{}'", "order_receipts", "cannot be read"),
        (
            "UPDATE order_receipts SET content = replace(content, '-32', '-31') WHERE number = 1",
            "order_receipts",
            "its hash is not that of its content",
        ),
        (f"UPDATE order_receipts SET signature = '{'ab' * 64}'", "order_receipts", "not signed by its key"),
        ("UPDATE order_receipts SET order_id = 9", "order_receipts", "in orders is missing"),
        ("DELETE FROM order_receipts WHERE number = 1", "order_receipts", "does not follow from the one"),
    ),
    "share_closings": (
        (f"UPDATE share_closings SET root = '{'ab' * 32}'", "share_closings", "its hash is not that"),
        (f"UPDATE share_closings SET signature = '{'ab' * 64}'", "share_closings", "not signed by its key"),
        (f"UPDATE share_closings SET prev_hash = '{'ab' * 32}'", "share_closings", "does not follow the one"),
        ("UPDATE share_closings SET number = 2", "share_roots", "missing"),
        ("DELETE FROM share_closings", "share_roots", "missing"),
    ),
    "share_roots": (
        ("UPDATE share_roots SET kept = '{}'", "share_closings", "not that of its settlements"),
        ("UPDATE share_roots SET kept = '{'", "share_roots", ""),
        ("DELETE FROM share_roots", "share_roots", "other settlements than those"),
    ),
    "share_leaves": (
        ("UPDATE share_leaves SET packed = substr(packed, 2)", "share_leaves", "not the shares of its root"),
        ("DELETE FROM share_leaves", "share_leaves", "its shares are missing"),
    ),
    "share_parts": (
        ("UPDATE share_parts SET packed = substr(packed, 2)", "share_parts", "these are no shares"),
        ("UPDATE share_parts SET rate_id = 99", "share_parts", "missing"),
    ),
    "order_terms": (
        ("UPDATE order_terms SET make_good = 'refund'", "order_receipts", "does not follow from"),
        ("UPDATE order_terms SET extension_h = 24", "order_receipts", "does not follow from"),
        ("DELETE FROM order_terms", "order_receipts", "does not follow from"),
    ),
    "power_tariffs": (("UPDATE power_tariffs SET currency = 'EUR'", "energy_charges", "another exchange"),),
    "power_tariff_hours": (
        ("UPDATE power_tariff_hours SET price_micro = 1", "energy_charges", "does not follow"),
    ),
    "power_tariff_tiers": (
        ("UPDATE power_tariff_tiers SET price_micro = 1", "energy_charges", "does not follow"),
    ),
    "power_exchange": (("UPDATE power_exchange SET sat_numerator = 1", "energy_charges", "does not follow"),),
    "hosting_terms": (("UPDATE hosting_terms SET charge = 'none'", "energy_to_charge", "by other terms"),),
    "booked_energy": (
        ("UPDATE booked_energy SET metered_j = 1", "energy_to_charge", "not what its containers drew"),
    ),
    "energy_to_charge": (
        ("UPDATE energy_to_charge SET charged_j = 0", "energy_to_charge", "charges are of other energy"),
    ),
    "energy_charges": (("UPDATE energy_charges SET posted_sat = 0", "energy_charges", "does not follow"),),
    "energy_dues": (("UPDATE energy_dues SET due_sat = 99", "energy_dues", "does not go on"),),
    "booked_events": (
        ("UPDATE booked_events SET from_s = from_s - 86400", "grid_payments", "something else"),
    ),
    "booked_event_parts": (
        ("UPDATE booked_event_parts SET forgone_sat = 1 WHERE tenant_id = 1", "grid_payments", "not divided"),
    ),
    "grid_payments": (("UPDATE grid_payments SET amount_sat = 7", "grid_payments", "was worth"),),
    "grid_payment_parts": (
        ("UPDATE grid_payment_parts SET operator_bps = 5", "grid_payments", "not that of its terms"),
    ),
    "tenants": (
        ("INSERT INTO tenants VALUES (9, 'ghost', 'active', 0)", "tenants", "nothing in tenant_terms"),
    ),
    "tenant_terms": (
        ("UPDATE tenant_terms SET fee_bps = 0 WHERE tenant_id = 1", "rates", "no such terms then"),
        (
            "INSERT INTO tenant_terms"
            " (id, tenant_id, scheme, fee_bps, payout_minimum_sat, changed_at_s, changed_by)"
            " VALUES (99, 1, 'pps', 0, 0, 5, 'ann')",
            "tenant_terms",
            "before the row before it",
        ),
    ),
    "changes": (
        ("DELETE FROM changes WHERE subject = 'acme'", "changes", "missing"),
        ("DELETE FROM changes WHERE subject = 'borealis'", "changes", "the book knows of it"),
        ("DELETE FROM changes", "changes", "the book knows of it"),
        ("UPDATE changes SET changed_by = 'eve' WHERE subject = 'borealis'", "changes", "what was hashed"),
        ("UPDATE changes SET source = '' WHERE subject = 'acme'", "changes", "what was hashed"),
        ("UPDATE changes SET became = '{}' WHERE subject = 'acme'", "changes", "what was hashed"),
        ("UPDATE changes SET id = -1 WHERE subject = 'acme'", "changes", "count from 1"),
        (
            "INSERT INTO changes SELECT 8, changed_at_s, 'eve', source, command, subject, was, became, hash"
            " FROM changes WHERE id = 2",
            "changes",
            "what was hashed",
        ),
        (
            "UPDATE changes SET changed_at_s = 5 WHERE subject = 'borealis'",
            "changes",
            "before the row before",
        ),
        ("UPDATE changes SET became = '{' WHERE subject = 'acme'", "changes", "cannot be read"),
        ("UPDATE changes SET became = '[1]' WHERE subject = 'borealis'", "changes", "cannot be read"),
    ),
    "users": (
        ("UPDATE users SET role = 'admin' WHERE name = 'vera'", "users", "no change made it"),
        ("UPDATE users SET account = 'eve' WHERE name = 'vera'", "users", "no change made it"),
        ("DELETE FROM users", "tokens", "what it names in users is missing"),
        (
            f"INSERT INTO users VALUES (9, 'eve', 'admin', NULL, NULL, 'active', {NOW_S}, 'ann')",
            "users",
            "no change made it",
        ),
    ),
    "tokens": (
        ("UPDATE tokens SET digest = substr(digest, 2) || '0'", "tokens", "no change made it"),
        ("UPDATE tokens SET scope = 'admin'", "tokens", "no change made it"),
        ("UPDATE tokens SET expires_at_s = expires_at_s + 1", "tokens", "no change made it"),
        ("DELETE FROM tokens", "tokens", "missing"),
    ),
    "requests": (
        ("UPDATE requests SET people = 1", "requests", "no change made it"),
        ("UPDATE requests SET params = replace(params, '50', '0')", "requests", "no change made it"),
        (
            "UPDATE requests SET earliest_at_s = earliest_at_s - 9, at_s = at_s - 9",
            "requests",
            "no change made it",
        ),
        (
            "INSERT INTO requests SELECT 2, command, subject, params, was, became, people, said_by, user_id,"
            " token_id, source, at_s, earliest_at_s, expires_at_s FROM requests",
            "requests",
            "no change made it",
        ),
    ),
    "request_events": (
        ("UPDATE request_events SET said_by = 'eve'", "requests", "no change made it"),
        ("DELETE FROM request_events", "requests", "no change made it"),
        (
            f"INSERT INTO request_events VALUES (1, 1, 'withdrawn', 'eve', NULL, NULL, '', {NOW_S}, '')",
            "requests",
            "no change made it",
        ),
    ),
    "tenant_addresses": (
        (
            "INSERT INTO tenant_addresses"
            " SELECT 99, 1, address, changed_at_s, 'ann', changed_at_s FROM tenant_addresses"
            " WHERE tenant_id = 2",
            "tenant_addresses",
            "before its 72 hours are over",
        ),
        (
            f"UPDATE tenant_addresses SET address = '{BOREALIS_ADDRESS}'",
            "payout_items",
            "no such address",
        ),
    ),
    "containers": (("UPDATE containers SET tenant_id = 2 WHERE id = 1", "workers", "another tenant's"),),
    "workers": (
        (
            "UPDATE workers SET tenant_id = 2, container_id = 2 WHERE id = 100",
            "tally_minutes",
            "different tenants",
        ),
    ),
    "fee_bases": (("UPDATE fee_bases SET block_fees_sat = 9", "fee_bases", "trimmed mean"),),
    "fee_basis_blocks": (("UPDATE fee_basis_blocks SET fees_sat = 9", "fee_bases", "trimmed mean"),),
    "rates": (
        ("UPDATE rates SET subsidy_sat = 2 * subsidy_sat", "settlements", "does not follow"),
        ("UPDATE rates SET height = 9", "rate_epoch_tenants", "not the price of the epoch"),
    ),
    "tally_minutes": (
        ("UPDATE tally_minutes SET shares = shares + 1", "rate_hours", "another number"),
        (
            "INSERT INTO tally_minutes SELECT minute, 999, 0, 0, 5, 1 FROM tally_minutes LIMIT 1",
            "tally_minutes",
            "no such machine",
        ),
    ),
    "tally_hours": (
        (f"INSERT INTO tally_hours VALUES (100, {HOUR}, 1, -32, 0, 5, 1)", "rate_hours", "another number"),
    ),
    "worker_days": (
        (f"INSERT INTO worker_days VALUES (100, {HOUR // 24}, 16, 0, 5, 1)", "worker_days", "add up to"),
    ),
    "container_hours": (
        (f"INSERT INTO container_hours VALUES (1, {HOUR}, 16, 0, 5)", "container_hours", "add up to"),
    ),
    "tally_days": (
        (
            f"INSERT INTO tally_days VALUES (100, {HOUR // 24}, 1, -32, 0, 5, 1)",
            "rate_hours",
            "another number",
        ),
    ),
    "rate_hours": (("UPDATE rate_hours SET shares = shares + 1", "rate_hours", "another number"),),
    "ledger_accounts": (
        (
            "INSERT INTO ledger_accounts VALUES ('tenant.9.payable', 'payable', 9)",
            "ledger_accounts",
            "missing",
        ),
    ),
    "ledger_transactions": (("UPDATE ledger_transactions SET memo = 'x'", "ledger_transactions", "content"),),
    "ledger_transfers": (("UPDATE ledger_transfers SET amount_sat = 9", "ledger_transactions", "content"),),
    "settlements": (
        (
            "UPDATE settlements SET posted_sat = posted_sat + 1 WHERE posted_sat > 0",
            "settlements",
            "does not follow",
        ),
        ("UPDATE settlements SET settled_at_s = 5 WHERE seq = 2", "settlements", "before the row before it"),
    ),
    "settled_shares": (("UPDATE settled_shares SET shares = 9", "settlements", "does not follow"),),
    "blocks": (("UPDATE blocks SET income_sat = 51", "block_events", "something else"),),
    "block_events": (
        (
            f"DELETE FROM block_events WHERE position = 1 AND block_hash = '{BLOCK}'",
            "ledger_transactions",
            "no block behind",
        ),
    ),
    "solo_blocks": (
        (f"INSERT INTO solo_blocks VALUES ('{PAID_IN}', 1, '{ACME_ADDRESS}', 5)", "solo_blocks", ""),
    ),
    "block_funds": (
        ("UPDATE block_funds SET scheme = 'tides'", "block_funds", "other terms then"),
        ("UPDATE block_funds SET mined_at_s = mined_at_s - 7200", "block_funds", "the ledger has it as"),
        ("UPDATE block_funds SET mined_at_s = mined_at_s + 7600", "block_funds", "after it was booked"),
        ("UPDATE block_funds SET nbits = nbits - 1", "block_funds", "the ledger has it as divided by pplns2"),
        ("UPDATE block_funds SET ahead = '2/4'", "block_funds", "not what is written for a fraction"),
        ("UPDATE block_funds SET ahead = '99999999'", "block_funds", "more was worked ahead of it"),
        ("UPDATE block_funds SET ahead = '0'", "block_funds", "the ledger has it as divided by pplns2"),
        (f"DELETE FROM block_funds WHERE block_hash = '{YOUNG}'", "block_funds", "its rows as the pool's"),
        ("DELETE FROM block_funds", "block_funds", "its rows as the pool's"),
    ),
    "divisions": (
        ("UPDATE divisions SET last_hour = last_hour + 1", "divisions", "other hours"),
        ("UPDATE divisions SET seq = 2", "divisions", "is missing"),
    ),
    "division_works": (
        ("UPDATE division_works SET blocks = '1'", "divisions", "other work"),
        ("UPDATE division_works SET blocks = 'x'", "division_works", "no fraction"),
    ),
    "division_parts": (
        ("UPDATE division_parts SET posted_sat = posted_sat + 1", "division_parts", "does not follow"),
        ("UPDATE division_parts SET transaction_seq = 1", "division_parts", "something else for it"),
        ("DELETE FROM division_parts", "divisions", "not the parts"),
    ),
    "payout_batches": (
        ("UPDATE payout_batches SET state = 'broadcast'", "payout_batches", "its last event is final"),
        ("UPDATE payout_batches SET created_by = 'eve'", "payout_batches", "somebody else's"),
    ),
    "payout_items": (("UPDATE payout_items SET amount_sat = 9", "payout_items", "not those of its digest"),),
    "payout_approvals": (
        ("UPDATE payout_approvals SET fee_cap_sat = 9", "payout_approvals", "that its events tell"),
        ("DELETE FROM payout_approvals", "payout_approvals", "that its events tell"),
    ),
    "payout_attempts": (
        ("UPDATE payout_attempts SET fee_sat = fee_sat + 1", "payout_events", "something else"),
        (f"UPDATE payout_attempts SET txid = '{BLOCK}'", "payout_attempts", "another transaction"),
        ("UPDATE payout_attempts SET change_sat = 5", "payout_attempts", "other change"),
        ("UPDATE payout_attempts SET state = 'confirmed'", "payout_attempts", "a batch that is final"),
    ),
    "payout_inputs": (
        ("UPDATE payout_inputs SET amount_sat = amount_sat + 1", "payout_attempts", "its fee is not"),
        ("UPDATE payout_inputs SET vout = 2", "payout_inputs", "other coins"),
    ),
    "payout_events": (
        ("UPDATE payout_events SET state = 'failed' WHERE position = 1", "payout_events", "something else"),
        ("UPDATE payout_events SET at_s = 5 WHERE position = 0", "payout_events", "at another time"),
    ),
    "proposals": (
        (
            "UPDATE proposals SET proposed_by = 'bob' WHERE id = 1",
            "confirmations",
            "proposed what is confirmed",
        ),
    ),
    "confirmations": (
        (
            "UPDATE confirmations SET confirmed_by = 'eve' WHERE proposal_id = 1",
            "confirmations",
            "something else for it",
        ),
        (
            "UPDATE confirmations SET transaction_seq = NULL WHERE proposal_id = 1",
            "confirmations",
            "something else for it",
        ),
    ),
    "upstreams": (("UPDATE upstreams SET status = 'removed'", "upstream_endpoints", "was removed"),),
    "upstream_endpoints": (
        (
            "INSERT INTO upstream_endpoints VALUES (7, 0, 'evil.example', 3333, 'eve', 'x', 0, NULL)",
            "upstream_endpoints",
            "missing",
        ),
    ),
    "order_billing": (
        ("UPDATE order_billing SET due_days = 9", "order_invoices", "than its order's terms say"),
        ("DELETE FROM order_billing", "order_charge_shares", "nobody delivered its shares"),
    ),
    "order_charges": (
        ("UPDATE order_charges SET posted_sat = 6 WHERE seq = 2", "order_charges", "does not follow"),
        ("UPDATE order_charges SET amount_sat = amount_sat - 1", "order_charges", "does not follow"),
        ("DELETE FROM order_charges", "order_charges", "another number of shares than were delivered"),
    ),
    "order_charge_shares": (
        ("UPDATE order_charge_shares SET shares = 9", "order_charges", "does not follow"),
        ("DELETE FROM order_charge_shares", "order_charges", "does not follow"),
    ),
    "order_invoices": (
        ("UPDATE order_invoices SET amount_sat = amount_sat - 1", "order_invoices", "not that of its lines"),
        ("UPDATE order_invoices SET due_at_s = due_at_s + 86400", "order_invoices", "at another time"),
        ("UPDATE order_invoices SET number = 2", "order_invoices", "it is missing"),
        ("UPDATE order_invoices SET address = 'bc1q'", "order_invoices", "not its order's"),
        ("DELETE FROM order_invoices", "order_invoice_lines", "missing"),
    ),
    "order_invoice_lines": (("DELETE FROM order_invoice_lines", "order_invoices", "not of its order"),),
    "order_payments": (
        ("UPDATE order_payments SET amount_sat = 9 WHERE id = 1", "order_payments", "no two persons"),
        ("UPDATE order_payments SET reference = 'x' WHERE id = 1", "order_payments", "no two persons"),
        ("DELETE FROM order_payments WHERE id = 2", "ledger_accounts", "something else than is owed"),
    ),
    "order_addresses": (("DELETE FROM order_addresses", "order_deposits", "its order has no address"),),
    "order_deposits": (
        ("UPDATE order_deposits SET amount_sat = 700", "order_deposits", "something else"),
        ("UPDATE order_deposits SET part = 1", "order_deposits", "something else"),
        ("DELETE FROM order_deposits", "ledger_accounts", "something else than is owed"),
    ),
    "orders": (("UPDATE orders SET sat_per_ph_day = 9", "rates", "not that of its order"),),
    "order_suppliers": (
        ("INSERT INTO order_suppliers VALUES (1, 1, 2)", "order_suppliers", "another tenant's"),
    ),
    "upstream_hours": (("UPDATE upstream_hours SET shares = 8", "upstream_hours", "another number"),),
    "upstream_days": (("UPDATE upstream_days SET shares = 8", "upstream_hours", "another number"),),
    "journal_positions": (
        ("UPDATE journal_positions SET accepted = accepted - 1", "journal_positions", "are not the 240000"),
        ("UPDATE journal_positions SET before = before + 1", "journal_positions", "are not the 240000"),
        ("UPDATE journal_positions SET transactions = 3", "journal_positions", "not of as many transactions"),
        (f"UPDATE journal_positions SET digest = '{'z' * 32}'", "journal_positions", "its digest is none"),
        (
            f"UPDATE journal_positions SET moment_s = {NOW_S + 10**9}",
            "journal_positions",
            "after the latest moment",
        ),
    ),
    "journal_hours": (
        ("UPDATE journal_hours SET records = 6", "journal_hours", "6 records with 240000 accepted shares"),
        ("UPDATE journal_hours SET number = 6", "journal_hours", "not the one taken last"),
        (f"UPDATE journal_hours SET digest = '{'z' * 32}'", "journal_hours", "its digest is none"),
    ),
    "journal_hour_shares": (
        ("UPDATE journal_hour_shares SET shares = 9", "journal_hours", "7 records with 9 accepted shares"),
    ),
    "edges": (
        ("UPDATE edges SET ths = 9999", "edges", "no change made it what it is"),
        ("UPDATE edges SET name = 'south'", "edges", "it is missing"),
    ),
    "edge_places": (("INSERT INTO edge_places VALUES (1, 2, '')", "edges", "no change made it what it is"),),
    "edge_writers": (("UPDATE edge_writers SET part = 9", "edge_writers", "did not begin with its numbers"),),
    "rate_epochs": (
        ("UPDATE rate_epochs SET nbits = nbits - 1", "rate_epoch_tenants", "not the price of the epoch"),
        ("DELETE FROM rate_epochs WHERE epoch = 1", "rate_epoch_tenants", "missing"),
    ),
    "rate_epoch_tenants": (
        (
            "UPDATE rate_epoch_tenants SET rate_id = (SELECT MAX(id) FROM rates)",
            "rate_epoch_tenants",
            "not the price of the epoch",
        ),
    ),
    "upstream_submits": (
        (
            f"INSERT INTO upstream_submits VALUES ('ab', 100, 77, 1, 0, '{TARGET}', 5, 'w')",
            "upstream_submits",
            "missing",
        ),
    ),
    "upstream_tips": (("UPDATE upstream_tips SET forgotten = 1", "upstream_tips", "still has credits"),),
    "upstream_credits": (
        ("UPDATE upstream_credits SET tip_id = 77", "upstream_credits", "missing"),
        ("UPDATE upstream_credits SET hashes = substr(hashes, 2)", "upstream_credits", "no row of hashes"),
    ),
    "book": (
        (
            f"UPDATE book SET network = 'main', genesis = '{NETWORKS['main'].genesis}'",
            "book",
            "it is bound to main: bcrt1",
        ),
        ("UPDATE book SET genesis = 'ab'", "book", "does not begin with"),
        ("UPDATE book SET last_change = 1", "changes", "after the newest that the book knows"),
        ("UPDATE book SET last_change_hash = 'ab'", "changes", "not the one that the book knows"),
        ("UPDATE book SET latest_s = 5", "tenants", "after the latest moment"),
        (f"UPDATE book SET ordered_from_s = {1 << 40}", "book", "that has not been"),
        ("DELETE FROM book", "book", "it is missing"),
    ),
}
# In these a whole row can be invented that nothing contradicts; why that is so, and what it gains nobody.
BY_DESIGN: dict[str, tuple[str, str]] = {
    "power_carbon": ("UPDATE power_carbon SET mg_per_kwh = 0", "no money, and told with its source"),
    "energy_taken": ("UPDATE energy_taken SET next_hour = next_hour + 1", "how far the bookkeeper is"),
    "machine_addresses": ("DELETE FROM machine_addresses", "where a machine answers, which is not believed"),
    "machine_credentials": ("DELETE FROM machine_credentials", "what a machine is told with"),
    "power_event_machines": (
        "DELETE FROM power_event_machines",
        "what was asked of machines: its books are closed when it is over",
    ),
    "power_event_steps": ("DELETE FROM power_event_steps", "what was asked of machines, step by step"),
    "power_event_work": (
        "DELETE FROM power_event_work",
        "what machines did before an event: its books are closed when it is over",
    ),
    "power_events": ("DELETE FROM power_events", "what was asked for: its books are closed when it is over"),
    "power_exemptions": ("DELETE FROM power_exemptions", "whom no event asks"),
    "power_limits": ("DELETE FROM power_limits", "what may be drawn"),
    "power_meter_containers": (
        "DELETE FROM power_meter_containers",
        "what a meter stands before: energy is booked as it was known",
    ),
    "power_meters": ("DELETE FROM power_meters", "what stands where: energy is booked as it was known"),
    "power_nameplates": (
        "DELETE FROM power_nameplates",
        "what machines draw: energy is booked as it was known",
    ),
    "power_readings": ("DELETE FROM power_readings", "what meters read: energy is booked as it was known"),
    "power_terms": ("DELETE FROM power_terms", "who is asked first"),
    "journal_writers": (
        "INSERT INTO journal_writers VALUES ('eve', 5)",
        "a counter that a retry is known by",
    ),
    "request_secrets": (
        "INSERT INTO request_secrets VALUES (1, '{}')",
        "what is carried out by it is compared with what was approved, but for an upstream's password",
    ),
    "edge_copies": (
        "DELETE FROM edge_copies",
        "which hub is asked before an edge begins another journal: what it then has is booked all the same",
    ),
    "sites": (
        f"INSERT INTO sites (id, name, created_at_s) VALUES (9, 'Bratsk', {NOW_S})",
        "a name for reports",
    ),
    "channel_events": (
        f"UPDATE channel_events SET at_s = {1 << 40}",
        "what the allocator saw, at its own time: a bill is by shares",
    ),
    "order_deposits_seen": (
        "UPDATE order_deposits_seen SET height = 0",
        "how far the chain was looked through: an output is booked once",
    ),
    "order_hours": ("UPDATE order_hours SET minutes_short = 0", "what allocation saw: a bill is by shares"),
    "sibling_reports": (
        f"INSERT INTO sibling_reports VALUES ('{'ab' * 16}', {NOW_S})",
        "what a count for the luck is known by when it is told again",
    ),
    "refused_credits": (
        f"INSERT INTO refused_credits VALUES ('w', '{'ab' * 16}', 9)",
        "a share that is in no tally yet",
    ),
    "refused_shares": (
        "INSERT INTO refused_shares VALUES ('w', 1, 1, 1, 1, 0, 9, 5)",
        "shares that are in no tally yet: a window of a journal that is half taken",
    ),
    "sibling_blocks": (
        f"INSERT INTO sibling_blocks VALUES ('{BLOCK}', 100, 1, 5, {NOW_S}, 3)",
        "counts for the luck, no money",
    ),
    "change_keys": (
        f"INSERT INTO change_keys VALUES ('eve', 'k', '{'0' * 64}', 1, {NOW_S}, NULL)",
        "who asks for a change under this key hears that it was made, which the history does not have",
    ),
    "payout_strangers": (
        f"INSERT INTO payout_strangers VALUES ('{BLOCK}', '', 'eve', {NOW_S})",
        "what the chain has to say of it is asked by `payout reconcile`, and every payout spends its anchor",
    ),
}


class Undone(Exception):
    """What was forged is not kept."""


def forge(store: Store, statement: str) -> tuple[Audit, dict[str, int]]:
    """What `verify` finds, and the balances, after a statement that is undone again."""
    found: list[tuple[Audit, dict[str, int]]] = []

    def undone(connection: Connection) -> None:
        disarm(connection)
        connection.execute(text(statement))
        found.append((verify(connection), balances_sat(connection)))
        raise Undone

    with pytest.raises(Undone), store.write() as connection:
        undone(connection)
    return found[0]


def test_every_table_has_its_forger() -> None:
    assert set(FORGERS) | set(BY_DESIGN) == set(metadata.tables)


def test_the_book_itself_is_in_order(books: Store) -> None:
    with books.read() as connection:
        assert verify(connection).wrong is None
        empty = {
            name
            for name in metadata.tables
            if not connection.scalar(select(text("1")).select_from(text(name)))
        }
    invented = {
        "tally_hours",
        "tally_days",
        "worker_days",
        "container_hours",
        "solo_blocks",
        "upstream_submits",
        "sites",
    }
    invented |= {"sibling_blocks", "payout_strangers", "change_keys", "request_secrets"}
    invented |= {"edge_copies", "refused_credits", "refused_shares", "sibling_reports"}
    power = {it for it in BY_DESIGN if it.startswith(("power_", "machine_"))}  # no money is of their rows
    invented |= power - {"power_carbon"}
    assert empty <= invented, "there is something to forge"


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("statement", "table", "reason"),
    [
        pytest.param(*it, id=f"{name}-{n}")
        for name, forgers in FORGERS.items()
        for n, it in enumerate(forgers)
    ],
)
def test_a_forged_row_is_found(books: Store, statement: str, table: str, reason: str) -> None:
    wrong = forge(books, statement)[0].wrong
    assert wrong is not None
    assert wrong.table == table, wrong
    assert reason in wrong.reason


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("table", BY_DESIGN)
def test_what_nothing_contradicts_moves_no_satoshi(books: Store, table: str) -> None:
    with books.read() as connection:
        before = balances_sat(connection)
    found, after = forge(books, BY_DESIGN[table][0])
    assert (found.wrong, after) == (None, before)


@pytest.mark.parametrize(
    ("key", "reason"),
    [("gift", "there is nothing behind it"), (f"overpaid:{'ab' * 32}", "nobody knew of")],
)
def test_an_adjustment_that_is_booked_as_the_ledger_books_follows_from_a_payout_or_is_found(
    books: Store, key: str, reason: str
) -> None:
    """Whoever may write can count the hashes too: what the chain of bookings does not know is why."""

    def gift(connection: Connection) -> None:
        made_up = Transaction(
            key=key,
            kind=Kind.ADJUSTMENT,
            memo=f"paid by {'ab' * 32} beyond what was owed, known to ann and bob",
            transfers=(Transfer(PoolAccount.OVERPAID.value, payable(1), 5),),
        )
        seq = post(connection, made_up, NOW_S + 8000).seq
        wrong = verify(connection).wrong
        assert wrong is not None
        assert (wrong.table, wrong.row) == ("ledger_transactions", str(seq))
        assert reason in wrong.reason
        raise Undone

    with pytest.raises(Undone), books.write() as connection:
        gift(connection)
