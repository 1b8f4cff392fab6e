"""A statement as a document: what a client reads first comes first, the machines come last.

Invariants: every figure is the statement's own. Must not know: the database, and any format.
"""

from datetime import date
from typing import Final

from payouts.proof.evidence import Proof
from payouts.rates import PSAT_PER_SAT, OrderCredit, Scheme, UpstreamRisk
from payouts.statements.statement import Statement
from pool.reports.cells import BLANK, amount, count, exact, hashrate, moment, number, percent, work
from pool.reports.divided_section import divided_facts, divided_sections
from pool.reports.document import (
    Block,
    Cell,
    Column,
    Document,
    Fact,
    Facts,
    Prose,
    Section,
    Series,
    Table,
    Tiles,
    period_in_words,
    text,
)
from pool.reports.energy_section import energy_sections
from pool.reports.figures import confirmations, grouped
from pool.reports.reserve_section import reserve_blocks
from pool.reports.work_section import container_blocks, machines_table

ORDER_CREDITS: dict[str, str] = {OrderCredit.PPS: "the pool's rate", OrderCredit.ORDER: "the order's price"}
MACHINES: Final = "Machines"  # the section that may be longer than all others
UPSTREAM_RISKS: dict[str, str] = {UpstreamRisk.TENANT: "not paid", UpstreamRisk.POOL: "paid"}


def statement_document(statement: Statement, proof: Proof | None = None) -> Document:
    """The whole statement, and what proves it where it is signed."""
    sections = (
        Section(title=None, blocks=_head(statement)),
        Section(title="Hashrate and earnings", blocks=_charts(statement)),
        Section(title="Credits by rate", blocks=_rates(statement)),
        *_solo(statement),
        *divided_sections(statement.divided),
        Section(title="Payouts", blocks=_payouts(statement)),
        *energy_sections(statement.energy),
        Section(title="Adjustments", blocks=(_adjustments(statement),)),
        Section(title="Terms, addresses and approvals", blocks=_decisions(statement)),
        Section(title="Reserve of the pool", blocks=reserve_blocks(statement.reserve)),
        Section(title="How to check this statement", blocks=_proof(statement, proof)),
        Section(title="Containers", blocks=container_blocks(statement.work)),
        Section(title=MACHINES, blocks=(machines_table(statement.work),)),
    )
    return Document(
        title="Statement of account",
        subject=text(statement.tenant).text,
        period=period_in_words(statement.from_day, statement.to_day),
        ends=date.fromisoformat(statement.to_day),
        sections=sections,
        name="statement",
        data=statement,
        content_hash=statement.content_hash,
        proof=proof,
    )


def _head(statement: Statement) -> tuple[Block, ...]:
    money, total = statement.money, statement.work.total
    balance = Facts(
        key="balance_sat",
        facts=(
            Fact(
                key="opening",
                label=f"Opening balance, {statement.from_day} 00:00",
                cell=amount(money.opening_sat),
            ),
            Fact(key="credits", label="Credits for accepted shares", cell=amount(money.credits_sat)),
            *divided_facts(statement),
            Fact(key="payouts", label="Payouts", cell=amount(-money.payouts_sat)),
            *_power(statement),
            Fact(key="adjustments", label="Adjustments", cell=amount(money.adjustments_sat)),
            Fact(
                key="closing",
                label=f"Closing balance, {statement.to_day} 00:00 (BTC)",
                cell=amount(money.closing_sat),
                strong=True,
            ),
            Fact(
                key="closing_payable",
                label="of which payable",
                cell=amount(money.closing_payable_sat),
                part=True,
            ),
            Fact(
                key="closing_in_payout",
                label="of which on its way in a payout",
                cell=amount(money.closing_in_payout_sat),
                part=True,
            ),
        ),
    )
    tiles = Tiles(
        key="work",
        facts=(
            Fact(key="hashrate_hps", label="Average hashrate", cell=hashrate(total.hashrate_hps)),
            Fact(key="uptime_bps", label="Uptime", cell=percent(total.uptime_bps)),
            Fact(key="machines", label="Machines", cell=count(total.machines)),
            Fact(key="accepted", label="Accepted shares", cell=count(total.accepted)),
            Fact(key="rejected", label="Rejected shares", cell=count(sum(total.rejected.values()))),
        ),
    )
    return balance, tiles


def _power(statement: Statement) -> tuple[Fact, ...]:
    """What energy took from the balance, and the grid gave, where there was something."""
    facts = []
    if statement.energy is not None:
        facts.append(Fact(key="energy", label="Energy", cell=amount(-statement.money.energy_sat)))
    if statement.money.grid_sat:
        grid = amount(statement.money.grid_sat)
        facts.append(Fact(key="grid", label="Paid by the grid for curtailments", cell=grid))
    return tuple(facts)


def _charts(statement: Statement) -> tuple[Block, ...]:
    starts = tuple(it.from_utc for it in statement.timeline)
    return (
        Series(
            key="timeline_hashrate_hps",
            title=f"Average hashrate by {statement.step}",
            kind="line",
            quantity="hashrate_hps",
            step=statement.step,
            starts_utc=starts,
            values=tuple(it.hashrate_hps for it in statement.timeline),
        ),
        Series(
            key="timeline_credit_sat",
            title=f"Credits booked by {statement.step}",
            kind="bars",
            quantity="sat",
            step=statement.step,
            starts_utc=starts,
            values=tuple(it.credit_sat for it in statement.timeline),
        ),
    )


def _rates(statement: Statement) -> tuple[Block, ...]:
    columns = (
        Column(key="rate", title="Rate"),
        Column(key="scheme", title="Scheme"),
        Column(key="nbits", title="nBits"),
        Column(key="heights", title="Block heights"),
        Column(key="subsidy_sat", title="Subsidy (BTC)", right=True),
        Column(key="block_fees_sat", title="Block fees (BTC)", right=True),
        Column(key="fee_bps", title="Pool fee", right=True),
        Column(key="shares", title="Shares", right=True),
        Column(key="work", title="Sum of difficulty", right=True),
        Column(key="credit", title="Credit (sat)", right=True),
    )
    rows = []
    for rate in statement.rates:
        heights = f"from {grouped(rate.height_from)}"
        if rate.height_to is not None:
            heights = f"{grouped(rate.height_from)}–{grouped(rate.height_to)}"  # noqa: RUF001
        rows.append(
            (
                number(rate.rate),
                text(rate.scheme.upper() if rate.sat_per_ph_day is None else "ORDER"),
                text(rate.nbits),
                Cell(heights, f"{rate.height_from}-{'' if rate.height_to is None else rate.height_to}"),
                amount(rate.subsidy_sat) if rate.sat_per_ph_day is None else BLANK,
                amount(rate.block_fees_sat) if rate.sat_per_ph_day is None else BLANK,
                percent(rate.fee_bps),
                count(rate.shares),
                work(rate.work),
                exact(rate.credit_sat * PSAT_PER_SAT + rate.credit_psat),
            )
        )
    credit = exact(sum(it.credit_sat * PSAT_PER_SAT + it.credit_psat for it in statement.rates))
    shares = sum(rate.shares for rate in statement.rates)
    total = (Cell("Total", "total"), *(BLANK,) * 6, count(shares), BLANK, credit)
    return (
        Table(
            key="rates",
            columns=columns,
            rows=tuple(rows),
            total=total if rows else None,
            empty="No shares were settled in this period.",
        ),
        Prose(
            text="A share of difficulty d pays p × the value of a block less the pool's fee, where p ="  # noqa: RUF001
            " min(1, d × target / target of difficulty 1). PPS pays for the subsidy, FPPS for subsidy and"  # noqa: RUF001
            " block fees. Each hour is settled exactly, about a minute after its end, and what is left"
            " below one satoshi is carried to the next: so the last hour of the period is in the next"
            " statement, and the last hour before it is in this one."
        ),
        *_sources(statement),
        _carry(statement, credit),
    )


def _carry(statement: Statement, credit: Cell) -> Facts:
    money = statement.money
    return Facts(
        key="carry",
        facts=(
            Fact(key="carried_in", label="Carried in from before (sat)", cell=exact(money.carry_in_psat)),
            Fact(key="credit", label="Credit of all rates (sat)", cell=credit),
            Fact(
                key="booked",
                label="Booked in whole satoshi (sat)",
                cell=exact(-money.credits_sat * PSAT_PER_SAT),
            ),
            Fact(
                key="carried_out",
                label="Carried forward (sat)",
                cell=exact(money.carry_out_psat),
                strong=True,
            ),
        ),
    )


def _sources(statement: Statement) -> tuple[Block, ...]:
    """Whose work it was, where not all of it was the pool's own."""
    elsewhere = [rate for rate in statement.rates if rate.upstream is not None]
    if not elsewhere:
        return ()
    table = Table(
        key="sources",
        columns=(
            Column(key="rate", title="Rate"),
            Column(key="upstream", title="Work of upstream"),
            Column(key="order", title="Sold by order"),
            Column(key="sat_per_ph_day", title="Price (sat per PH-day)", right=True),
        ),
        rows=tuple(
            (
                number(rate.rate),
                text(rate.upstream or ""),
                number(rate.order),
                BLANK if rate.sat_per_ph_day is None else count(rate.sat_per_ph_day),
            )
            for rate in elsewhere
        ),
        empty="",
    )
    note = Prose(
        text="Work at an order's price pays that price, less the pool's fee, for every PH-day: 86,400 × 10^15"  # noqa: RUF001
        " hashes. Shares of difficulty d stand for d × 2^256 / target of difficulty 1 hashes each. Work of"  # noqa: RUF001
        " the scheme PROXY is paid by its upstream."
    )
    return table, note


def _solo(statement: Statement) -> tuple[Section, ...]:
    """Of a tenant whose own blocks paid it, or could have."""
    if not statement.blocks and not any(rate.scheme == Scheme.SOLO for rate in statement.rates):
        return ()
    table = Table(
        key="blocks",
        columns=(
            Column(key="height", title="Height", right=True),
            Column(key="found_at_utc", title="Found (UTC)"),
            Column(key="hash", title="Hash, and the address that it pays"),
            Column(key="status", title="Status"),
            Column(key="fee_sat", title="Pool fee (BTC)", right=True),
            Column(key="amount_sat", title="To you (BTC)", right=True),
        ),
        rows=tuple(
            (
                count(it.height),
                moment(it.found_at_utc),
                Cell(f"{it.hash}\n{text(it.address).text}", f"{it.hash} {it.address}"),
                text(it.status),
                amount(it.fee_sat),
                amount(it.amount_sat),
            )
            for it in statement.blocks
        ),
        empty="No block of yours was found in this period.",
    )
    note = Prose(
        text="The scheme SOLO pays nothing for shares: a block that your machines find pays you in its own"
        " coinbase, at the address above, less the pool's fee, floor(value × fee), which is an output of its"  # noqa: RUF001
        " own unless it is dust. It is not in the balance: the pool never has it. It can be spent after 100"
        " confirmations (matured) and is worth nothing where another block took its place (orphaned); the"
        " status is the one booked by the end of the period, and blocks of which something became in it are"
        " listed again."
    )
    return (Section(title="Blocks that paid you", blocks=(table, note)),)


def _payouts(statement: Statement) -> tuple[Block, ...]:
    columns = (
        Column(key="batch", title="Batch"),
        Column(key="state", title="State"),
        Column(key="since_utc", title="Since (UTC)"),
        Column(key="destination", title="Paid to, and transaction : output"),
        Column(key="confirmations", title="Conf.", right=True),
        Column(key="amount_sat", title="Amount (BTC)", right=True),
        Column(key="booked_sat", title="Booked (BTC)", right=True),
    )
    rows = []
    for payout in statement.payouts:
        where = f"{payout.txid}:{payout.output}" if payout.txid else "not broadcast"
        rows.append(
            (
                number(payout.batch),
                text(payout.state),
                moment(payout.since_utc),
                Cell(f"{text(payout.address).text}\n{where}", f"{payout.address} {where}"),
                Cell(confirmations(payout.confirmations), payout.confirmations),
                amount(payout.amount_sat),
                amount(payout.booked_sat),
            )
        )
    note = Prose(
        text="States and confirmations are those booked by the end of the period. An amount leaves the"
        " balance when its payout has six confirmations; until then it is on its way."
    )
    table = Table(key="payouts", columns=columns, rows=tuple(rows), empty="No payouts in this period.")
    return (table, note) if rows else (table,)


def _adjustments(statement: Statement) -> Table:
    columns = (
        Column(key="transaction", title="Transaction"),
        Column(key="booked_at_utc", title="Booked (UTC)"),
        Column(key="kind", title="Kind"),
        Column(key="memo", title="Reason"),
        Column(key="reverses", title="Reverses"),
        Column(key="amount_sat", title="Amount (BTC)", right=True),
    )
    rows = tuple(
        (
            number(it.transaction),
            moment(it.booked_at_utc),
            text(it.kind),
            text(it.memo),
            number(it.reverses),
            amount(it.amount_sat),
        )
        for it in statement.adjustments
    )
    return Table(key="adjustments", columns=columns, rows=rows, empty="No adjustments in this period.")


def _terms(statement: Statement) -> Table:
    return Table(
        key="terms",
        columns=(
            Column(key="changed_at_utc", title="Terms since (UTC)"),
            Column(key="scheme", title="Scheme"),
            Column(key="upstream", title="Mines for"),
            Column(key="fee_bps", title="Pool fee", right=True),
            Column(key="payout_minimum_sat", title="Minimum payout (BTC)", right=True),
            Column(key="order_credit", title="Orders paid by"),
            Column(key="upstream_risk", title="Undelivered shares"),
            Column(key="changed_by", title="Set by"),
        ),
        rows=tuple(
            (
                moment(it.changed_at_utc),
                text(it.scheme.upper()),
                Cell("the pool", None) if it.upstream is None else text(it.upstream),
                percent(it.fee_bps),
                amount(it.payout_minimum_sat),
                Cell(ORDER_CREDITS[it.order_credit], it.order_credit),
                Cell(UPSTREAM_RISKS[it.upstream_risk], it.upstream_risk),
                text(it.changed_by),
            )
            for it in statement.terms
        ),
        empty="No terms on record.",
    )


def _decisions(statement: Statement) -> tuple[Block, ...]:
    addresses = Table(
        key="addresses",
        columns=(
            Column(key="changed_at_utc", title="Address set (UTC)"),
            Column(key="effective_at_utc", title="Paid to from (UTC)"),
            Column(key="address", title="Address"),
            Column(key="changed_by", title="Set by"),
        ),
        rows=tuple(
            (moment(it.changed_at_utc), moment(it.effective_at_utc), text(it.address), text(it.changed_by))
            for it in statement.addresses
        ),
        empty="No payout address on record.",
    )
    approvals = Table(
        key="approvals",
        columns=(
            Column(key="approved_at_utc", title="Payout approved (UTC)"),
            Column(key="batch", title="Batch"),
            Column(key="approved_by", title="By"),
            Column(key="digest", title="Digest of all outputs"),
        ),
        rows=tuple(
            (moment(it.approved_at_utc), number(it.batch), text(it.approved_by), text(it.digest))
            for it in statement.approvals
        ),
        empty="No payout to you was approved in this period.",
    )
    return _terms(statement), addresses, approvals


def _proof(statement: Statement, proof: Proof | None) -> tuple[Block, ...]:
    return (
        Facts(
            key="proof",
            facts=(
                Fact(key="content_hash", label="Content hash", cell=text(statement.content_hash)),
                Fact(key="ledger_seq", label="Last ledger transaction", cell=count(statement.ledger_seq)),
                Fact(key="ledger_hash", label="Its hash", cell=text(statement.ledger_hash)),
            ),
        ),
        Prose(
            text="The content hash is the SHA-256 of the object “statement” of this statement's JSON form,"
            " written with sorted keys, without spaces and in ASCII. The ledger is a chain of hashes: as"
            " long as the hash above is found in it, nothing booked before it was changed."
        ),
        *_signed(proof),
    )


def _signed(proof: Proof | None) -> tuple[Block, ...]:
    """Which root it names, and whose signature its JSON form has."""
    if proof is None:
        return ()
    root = proof.root
    facts = Facts(
        key="root",
        facts=(
            Fact(key="root", label=f"Root {root.number}, of all that was owed", cell=text(root.hash)),
            Fact(key="key", label="Signed by the key", cell=text(root.key)),
        ),
    )
    return facts, Prose(
        text="The JSON form of this statement is signed, and shows that its balance is in the total of that"
        " root. “angara-verify” checks it without the pool. Compare the key and the root's hash with what"
        " the pool publishes: everybody is told the same."
    )
