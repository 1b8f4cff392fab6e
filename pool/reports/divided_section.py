"""Blocks that were divided over a tenant's work, as tables and plain words.

Invariants: every figure is the statement's own, parts of a window in hundredths of a percent, rounded down.
Must not know: the database, and any format.
"""

from collections.abc import Sequence
from fractions import Fraction

from payouts.statements.divided import Divided, DividedBlock, GroupLuck
from payouts.statements.statement import Statement
from pool.reports.cells import BLANK, amount, count, exact, moment, percent
from pool.reports.document import Cell, Column, Fact, Prose, Section, Table, text


def divided_facts(statement: Statement) -> tuple[Fact, ...]:
    """What blocks brought into the balance, where the tenant carried its own luck."""
    if statement.divided is None:
        return ()
    brought = amount(statement.money.divided_sat)
    return (Fact(key="divided", label="Your part of blocks that were divided", cell=brought),)


def divided_sections(divided: Divided | None) -> tuple[Section, ...]:
    if divided is None:
        return ()
    blocks = Table(
        key="divided",
        columns=(
            Column(key="height", title="Height", right=True),
            Column(key="mined_at_utc", title="Mined (UTC)"),
            Column(key="hash", title="Hash, and the work that it pays"),
            Column(key="income_sat", title="Income (BTC)", right=True),
            Column(key="full", title="Window", right=True),
            Column(key="part", title="Yours of it", right=True),
            Column(key="pool_fee_psat", title="Pool fee (sat)", right=True),
            Column(key="credit_psat", title="To you (sat)", right=True),
        ),
        rows=tuple(_block(it) for it in divided.blocks),
        empty="No block was divided over your work in this period.",
    )
    note = Prose(
        text="A block that machines of your scheme found is divided, when it has matured, over the work"
        " before it: that of so many expected blocks as the scheme names, behind half a block that is left"
        " out. What the window had no work for stays with the pool. Your part is income × your expected"  # noqa: RUF001
        " blocks / window, less the fee, exactly; what is left below one satoshi is carried to your next"
        " block. Shares are paid by the blocks that follow them alone: how lucky all who have the scheme"
        " were in this period is below."
    )
    luck = luck_table("luck", divided.luck)
    return (Section(title="Blocks divided over your work", blocks=(blocks, note, luck)),)


def luck_table(key: str, luck: Sequence[GroupLuck]) -> Table:
    """Of groups whose blocks are divided."""
    return Table(
        key=key,
        columns=(
            Column(key="scheme", title="Scheme"),
            Column(key="found", title="Blocks found", right=True),
            Column(key="expected", title="Expected", right=True),
            Column(key="luck", title="Luck", right=True),
            Column(key="low", title="at least", right=True),
            Column(key="high", title="at most", right=True),
        ),
        rows=tuple(_luck(it) for it in luck),
        empty="",
    )


def _block(it: DividedBlock) -> tuple[Cell, ...]:
    yours = sum((Fraction(part.blocks) for part in it.works), Fraction(0))
    words = f"{it.scheme.upper()}, {moment(it.first_hour_utc).text} to {moment(it.last_hour_utc).text}"
    return (
        count(it.height),
        moment(it.mined_at_utc),
        Cell(f"{it.hash}\n{words}", f"{it.hash} {it.scheme} {it.first_hour_utc} {it.last_hour_utc}"),
        amount(it.income_sat),
        percent(int(Fraction(it.full_blocks) * 10_000 / it.window_blocks)),
        percent(int(yours * 10_000 / it.window_blocks)),
        exact(it.pool_fee_psat),
        exact(it.credit_psat),
    )


def _luck(it: GroupLuck) -> tuple[Cell, ...]:
    known = (BLANK if value is None else text(value) for value in (it.luck, it.low, it.high))
    return (text(it.scheme.upper()), count(it.found), text(it.expected), *known)
