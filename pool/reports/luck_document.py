"""Luck by tenant, container, machine or firmware as a document, and as a section of the pool's report.

Invariants: says what a hint is and what it is not. Must not know: how it is computed.
"""

from datetime import date

from payouts.reports.choices import Whose
from payouts.reports.luck import Hint, LuckReport
from pool.reports.cells import BLANK, count
from pool.reports.document import Block, Cell, Column, Document, Prose, Section, Table, period_in_words, text

TITLES = {
    Whose.TENANT: "Tenant",
    Whose.CONTAINER: "Container",
    Whose.WORKER: "Machine",
    Whose.FIRMWARE: "Firmware",
}
HINTS = {
    Hint.FEW: "TOO FEW: blocks are withheld, or lost on their way",
    Hint.MANY: "TOO MANY: more blocks than its counted work finds",
}


def luck_document(report: LuckReport) -> Document:
    """One report."""
    return Document(
        title="Luck",
        subject=text(report.tenant).text if report.tenant is not None else "All tenants",
        period=period_in_words(report.from_day, report.to_day),
        ends=date.fromisoformat(report.to_day),
        sections=(Section(title=None, blocks=luck_blocks(report)),),
        name="luck",
        data=report,
    )


def luck_blocks(report: LuckReport) -> tuple[Block, ...]:
    """The table and what it says."""
    title = TITLES[report.whose]
    table = Table(
        key=f"luck_by_{report.whose}",
        columns=(
            Column(key=report.whose.value, title=title),
            Column(key="found", title="Blocks found", right=True),
            Column(key="expected", title="Expected", right=True),
            Column(key="luck", title="Luck", right=True),
            Column(key="interval", title="95 % interval", right=True),
            Column(key="chance", title="By chance", right=True),
            Column(key="hint", title="Beyond chance"),
        ),
        rows=tuple(
            (
                text(it.name),
                count(it.found),
                text(it.expected),
                BLANK if it.luck is None else text(it.luck),
                BLANK if it.low is None else text(f"{it.low} - {it.high}"),
                text(it.chance),
                BLANK if it.hint is None else Cell(HINTS[it.hint], it.hint.value),
            )
            for it in report.rows
        ),
        empty="No work of the pool's own was done in this period.",
    )
    return table, Prose(text=_words(report))


def _words(report: LuckReport) -> str:
    words = (
        "Expected are the blocks that the accepted shares of the pool's own work find on average, found are"
        " those that came, orphans and siblings too. By chance: the probability of so few, or so many, where"
        " nobody"
        f" does anything wrong. {report.looked_at} were looked at, at both ends, so one is pointed at below"
        f" {report.threshold}: of reports in which all are honest, one in 1,000 points at anybody, and who"
        f" looks every day looks again every day. Of whom fewer than {report.tells_from} blocks are expected,"
        " even none is no hint."
    )
    if report.nobodys:
        words += f" Of {report.nobodys} more it is not known who found them: they were booked after a kill."
    if len(report.rows) < report.looked_at:
        words += f" The {len(report.rows)} that stand out most are shown."
    if report.whose is Whose.TENANT and any(it.hint is not None for it in report.rows):
        words += (
            " Where in a tenant it is: angara report luck --tenant NAME --of container, worker or firmware."
        )
    return words
