"""The part of a statement that is about work: containers, silent machines, machines.

Invariants: reasons of rejection are all told, in columns or in words. Must not know: money.
"""

from typing import Final

from payouts.statements.work import Work, WorkRow
from pool.reports.cells import count, hashrate, percent
from pool.reports.document import Block, Cell, Column, Table, text
from pool.reports.figures import grouped

REASON_COLUMNS_MAX: Final = 5  # more would leave no room; the rarest are told together, in words
SILENT_SHOWN_MAX: Final = 60  # names of silent machines of one container on paper


def container_blocks(work: Work) -> tuple[Block, ...]:
    """Containers with their sum, and who was silent."""
    reasons = _Reasons(work.total.rejected)
    table = Table(
        key="containers",
        columns=(
            Column(key="container", title="Container"),
            Column(key="machines", title="Machines", right=True),
            Column(key="accepted", title="Accepted", right=True),
            *reasons.columns,
            Column(key="hashrate_hps", title="Average hashrate", right=True),
            Column(key="uptime_bps", title="Uptime", right=True),
        ),
        rows=tuple(
            (text(it.container), count(it.machines), *reasons.of(it), *_performance(it))
            for it in work.containers
        ),
        total=(
            Cell("Total", "total"),
            count(work.total.machines),
            *reasons.of(work.total),
            *_performance(work.total),
        )
        if work.containers
        else None,
        empty="No container is known.",
    )
    silent = tuple(
        (text(it.container), count(len(it.silent)), _names(it.silent)) for it in work.containers if it.silent
    )
    if not silent:
        return (table,)
    return (
        table,
        Table(
            key="silent",
            columns=(
                Column(key="container", title="Container"),
                Column(key="count", title="Silent", right=True),
                Column(key="units", title="Known machines that sent nothing in this period"),
            ),
            rows=silent,
        ),
    )


def machines_table(work: Work) -> Table:
    """Every machine that sent anything."""
    reasons = _Reasons(work.total.rejected)
    return Table(
        key="machines",
        columns=(
            Column(key="container", title="Container"),
            Column(key="unit", title="Machine"),
            Column(key="accepted", title="Accepted", right=True),
            *reasons.columns,
            Column(key="hashrate_hps", title="Average hashrate", right=True),
            Column(key="uptime_bps", title="Uptime", right=True),
        ),
        rows=tuple(
            (text(it.container), text(it.unit), *reasons.of(it), *_performance(it)) for it in work.workers
        ),
        empty="No machine sent anything in this period.",
    )


class _Reasons:
    """Columns for accepted shares' opposite: one for each reason that occurs, the commonest first."""

    def __init__(self, rejected: dict[str, int]) -> None:
        ranked = sorted(rejected, key=lambda reason: (-rejected[reason], reason))
        many = len(ranked) > REASON_COLUMNS_MAX
        self._shown = ranked[: REASON_COLUMNS_MAX - 1] if many else ranked
        self._other = ranked[REASON_COLUMNS_MAX - 1 :] if many else []
        self.columns = tuple(
            Column(key=f"rejected_{reason.replace(' ', '_')}", title=reason.capitalize(), right=True)
            for reason in self._shown
        )
        if many:
            self.columns += (Column(key="rejected_other", title="Other"),)

    def of(self, row: WorkRow) -> tuple[Cell, ...]:
        """Accepted, and rejected by reason."""
        cells = [count(row.accepted), *(count(row.rejected.get(reason, 0)) for reason in self._shown)]
        if self._other:
            told = ", ".join(f"{it} {grouped(row.rejected[it])}" for it in self._other if it in row.rejected)
            cells.append(Cell(told, told))
        return tuple(cells)


def _performance(row: WorkRow) -> tuple[Cell, Cell]:
    return hashrate(row.hashrate_hps), percent(row.uptime_bps)


def _names(units: tuple[str, ...]) -> Cell:
    """All of them for machines; on paper as many as somebody might read."""
    shown = ", ".join(text(unit).text for unit in units[:SILENT_SHOWN_MAX])
    if len(units) > SILENT_SHOWN_MAX:
        shown += f" and {grouped(len(units) - SILENT_SHOWN_MAX)} more"
    return Cell(shown, " ".join(units))
