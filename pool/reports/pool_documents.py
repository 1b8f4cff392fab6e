"""The operator's reports as documents: payouts, hashrate, the pool.

Must not know: the database, and any format.
"""

from collections.abc import Iterable
from datetime import date

from payouts.ledger import PoolAccount
from payouts.reports.choices import Grain
from payouts.reports.hashrate import HashrateReport, HashrateRow
from payouts.reports.payouts import PayoutsReport
from payouts.reports.pool import PoolReport
from pool.reports.cells import BLANK, amount, count, hashrate, moment, number, percent
from pool.reports.divided_section import luck_table
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
from pool.reports.figures import confirmations
from pool.reports.luck_document import luck_blocks
from pool.reports.reserve_section import reserve_blocks

ACCOUNT_NAMES = {
    PoolAccount.PPS_EXPENSE: "Work bought, at its full price",
    PoolAccount.FEE_INCOME: "The pool's fees",
    PoolAccount.BLOCKS_DIVIDED: "Blocks divided among tenants, with the fee",
    PoolAccount.BLOCK_INCOME_PENDING: "Block income, not mature",
    PoolAccount.BLOCK_INCOME_MATURED: "Block income, matured",
    PoolAccount.NODE_FEES: "Network fees of payouts",
    PoolAccount.ROUNDING: "Rounding",
    PoolAccount.OVERPAID: "Paid beyond what was owed",
    PoolAccount.ENERGY_INCOME: "Energy charged to tenants",
    PoolAccount.ENERGY_DUE: "Energy not paid yet (minus what is due)",
    PoolAccount.GRID_RECEIVED: "Paid by the grid (minus what it paid)",
    PoolAccount.GRID_INCOME: "The operator's part of the grid's payments",
    PoolAccount.ORDER_INCOME: "Work charged to buyers",
    PoolAccount.ORDER_RECEIVED: "Paid by buyers, outside of the payout wallet (minus what they paid)",
    PoolAccount.ORDER_WRITTEN_OFF: "Written off of what buyers owed (minus that)",
    PoolAccount.COINS: "Coins (minus what is held)",
}


def payouts_document(report: PayoutsReport, subject: str) -> Document:
    """Every batch with its items below it."""
    columns = (
        Column(key="batch", title="Batch"),
        Column(key="state", title="State"),
        Column(key="since_utc", title="Since (UTC)"),
        Column(key="confirmations", title="Conf.", right=True),
        Column(key="tenant", title="Tenant"),
        Column(key="destination", title="Paid to"),
        Column(key="output", title="Output", right=True),
        Column(key="amount_sat", title="Amount (BTC)", right=True),
    )
    rows: list[tuple[Cell, ...]] = []
    for batch in report.batches:
        where = batch.txid or "not broadcast"
        approved = ", ".join(batch.approved_by) or "nobody yet"
        rows.append(
            (
                number(batch.batch),
                text(batch.state),
                moment(batch.since_utc),
                Cell(confirmations(batch.confirmations), batch.confirmations),
                text("all"),
                Cell(
                    f"{where}\n{text(f'created by {batch.created_by}, approved by {approved}').text}", where
                ),
                BLANK,
                amount(batch.amount_sat),
            )
        )
        if batch.fee_sat is not None:
            rows.append(
                (number(batch.batch), *(BLANK,) * 3, text("network fee"), BLANK, BLANK, amount(batch.fee_sat))
            )
        rows += [
            (
                number(batch.batch),
                *(BLANK,) * 3,
                text(item.tenant),
                text(item.address),
                number(item.output),
                amount(item.amount_sat),
            )
            for item in batch.items
        ]
    table = Table(key="batches", columns=columns, rows=tuple(rows), empty="No payouts in this period.")
    return Document(
        title="Payouts",
        subject=text(subject).text,
        period=period_in_words(report.from_day, report.to_day),
        ends=date.fromisoformat(report.to_day),
        sections=(Section(title=None, blocks=(table,)),),
        name="payouts",
        data=report,
    )


def hashrate_document(report: HashrateReport, subject: str) -> Document:
    """The sum as a chart, then every row."""
    worker, box = report.grain == Grain.WORKER, report.grain != Grain.TENANT
    columns = (
        Column(key="tenant", title="Tenant"),
        *((Column(key="container", title="Container"),) if box else ()),
        *((Column(key="unit", title="Machine"),) if worker else ()),
        Column(key="from_utc", title=f"{report.step.capitalize()} from (UTC)"),
        Column(key="accepted", title="Accepted", right=True),
        Column(key="rejected", title="Rejected", right=True),
        Column(key="hashrate_hps", title="Average hashrate", right=True),
        Column(key="nameplate_hps", title="Nameplate", right=True),
        Column(key="of_nameplate_bps", title="Of nameplate", right=True),
    )
    rows = tuple(
        (
            text(row.tenant),
            *((text(row.container or ""),) if box else ()),
            *((text(row.unit or ""),) if worker else ()),
            moment(row.from_utc),
            count(row.accepted),
            count(row.rejected),
            hashrate(row.hashrate_hps),
            hashrate(row.nameplate_hps),
            percent(row.of_nameplate_bps),
        )
        for row in report.rows
    )
    return Document(
        title=f"Hashrate by {report.grain} and {report.step}",
        subject=text(subject).text,
        period=period_in_words(report.from_day, report.to_day),
        ends=date.fromisoformat(report.to_day),
        sections=(
            Section(title=None, blocks=(_sum(report.rows, report.step),)),
            Section(
                title=None,
                blocks=(Table(key="hashrate", columns=columns, rows=rows, empty="No machine is known."),),
            ),
        ),
        name="hashrate",
        data=report,
    )


def pool_document(report: PoolReport) -> Document:
    """Where the pool stands."""
    owed = Table(
        key="owed",
        columns=(
            Column(key="tenant", title="Tenant"),
            Column(key="payable_sat", title="Payable (BTC)", right=True),
            Column(key="in_payout_sat", title="In payout (BTC)", right=True),
            Column(key="total_sat", title="Owed (BTC)", right=True),
        ),
        rows=tuple(
            (
                text(it.tenant),
                amount(it.payable_sat),
                amount(it.in_payout_sat),
                amount(it.payable_sat + it.in_payout_sat),
            )
            for it in report.owed
        ),
        total=(
            Cell("Total", "total"),
            amount(sum(it.payable_sat for it in report.owed)),
            amount(sum(it.in_payout_sat for it in report.owed)),
            amount(sum(it.payable_sat + it.in_payout_sat for it in report.owed)),
        ),
    )
    accounts = Facts(
        key="accounts_sat",
        facts=tuple(
            Fact(
                key=account.value,
                label=f"{ACCOUNT_NAMES[account]} (BTC)",
                cell=amount(report.accounts_sat[account.value]),
            )
            for account in PoolAccount
        ),
    )
    sound = Cell("all rows agree", "ok") if report.wrong is None else text(f"WRONG: {report.wrong}")
    audit = Facts(
        key="audit",
        facts=(
            Fact(key="wrong", label="Audit of the whole ledger", cell=sound, strong=True),
            Fact(key="ledger_seq", label="Transactions", cell=count(report.ledger_seq)),
            Fact(key="settlements", label="Settlements derived again", cell=count(report.settlements)),
            Fact(key="ledger_hash", label="Hash of the last transaction", cell=text(report.ledger_hash)),
        ),
    )
    return Document(
        title="Pool report",
        subject="All tenants",
        period=period_in_words(report.from_day, report.to_day),
        ends=date.fromisoformat(report.to_day),
        sections=(
            Section(title="Luck", blocks=_luck(report)),
            *_groups(report),
            Section(title="Blocks", blocks=(_blocks(report),)),
            Section(title="Blocks by tenant", blocks=luck_blocks(report.by_tenant)),
            Section(title="Reserve", blocks=reserve_blocks(report.reserve)),
            Section(title="Owed to tenants, now", blocks=(owed,)),
            Section(title="Accounts of the pool, now", blocks=(accounts,)),
            Section(title="Ledger", blocks=(audit,)),
        ),
        name="pool",
        data=report,
    )


def _luck(report: PoolReport) -> tuple[Block, ...]:
    luck = report.luck
    if luck is None:
        return (Prose(text="No work was bought in this period, so there is no luck to speak of."),)
    return (
        Tiles(
            key="luck",
            facts=(
                Fact(key="found", label="Blocks found", cell=count(luck.found)),
                Fact(key="siblings", label="of which siblings", cell=count(luck.siblings)),
                Fact(key="expected", label="Blocks expected", cell=text(luck.expected)),
                Fact(key="luck", label="Luck", cell=text(luck.luck)),
                Fact(
                    key="interval", label="95 % interval (Garwood)", cell=text(f"{luck.low} to {luck.high}")
                ),
            ),
        ),
        Prose(
            text="Luck is blocks found over the sum of the probabilities of all shares that the pool bought."
            " The interval has the true ratio in it with 95 % confidence: as long as 1 lies within, there"
            " is nothing to explain. Above 1 the pool gains, below 1 it pays out more than it mines. Siblings"
            " followed a block that another of ours followed already: they were not submitted."
        ),
    )


def _groups(report: PoolReport) -> tuple[Section, ...]:
    if not report.groups:
        return ()
    note = Prose(
        text="Blocks that tenants of these schemes found are theirs: each is divided over their work when it"
        " has matured. What they gain or lose by luck is none of the pool's, and in no figure above."
    )
    return (
        Section(
            title="Luck of groups whose blocks are divided",
            blocks=(luck_table("group_luck", report.groups), note),
        ),
    )


def _blocks(report: PoolReport) -> Table:
    return Table(
        key="blocks",
        columns=(
            Column(key="height", title="Height", right=True),
            Column(key="found_at_utc", title="Found (UTC)"),
            Column(key="hash", title="Hash"),
            Column(key="status", title="Status"),
            Column(key="tenant", title="Solo tenant"),
            Column(key="tenant_sat", title="To it (BTC)", right=True),
            Column(key="income_sat", title="Income (BTC)", right=True),
        ),
        rows=tuple(
            (
                count(it.height),
                moment(it.found_at_utc),
                text(it.hash),
                text(it.status),
                BLANK if it.tenant is None else text(it.tenant),
                BLANK if it.tenant is None else amount(it.tenant_sat),
                amount(it.income_sat),
            )
            for it in report.blocks
        ),
        total=(Cell("Total", "total"), *(BLANK,) * 5, amount(sum(it.income_sat for it in report.blocks)))
        if report.blocks
        else None,
        empty="No block was found in this period.",
    )


def _sum(rows: Iterable[HashrateRow], step: str) -> Series:
    total: dict[str, int] = {}
    for row in rows:
        total[row.from_utc] = total.get(row.from_utc, 0) + row.hashrate_hps
    starts = tuple(sorted(total))
    return Series(
        key="total_hashrate_hps",
        title=f"Average hashrate of all rows by {step}",
        kind="line",
        quantity="hashrate_hps",
        step=step,
        starts_utc=starts,
        values=tuple(total[start] for start in starts),
    )
