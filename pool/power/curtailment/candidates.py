"""Machines of a site as they are now: what each draws, and whether an event may ask it.

What a machine draws is its accepted work of the last hour, as long as it mined in it, at its nameplate's
efficiency; it is not believed to draw more than its nameplate and its error bound allow. Of one without a
nameplate nothing is known. Must not know: what is asked for.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Select, func, select

from payouts.schemas.money import containers, sites, tally_minutes, tenants, workers
from payouts.sums import ACCEPTED
from pool.power.control.contract import MachineName
from pool.power.curtailment.baseline import Work, bounded, hashes_in_parts, window, work_between
from pool.power.curtailment.machines import Owner, owners
from pool.power.curtailment.pace import Pace, pace_of
from pool.power.curtailment.states import OFF
from pool.power.curtailment.terms import Terms, all_exemptions, terms_in_force
from pool.power.energy.efficiencies import efficiencies_at
from pool.power.figures import Basis, Efficiency

MINES_MIN: Final = 5  # whoever has had no share of so many minutes does not mine: nothing is to be had of it
SHARES_A_MINUTE: Final = 5  # of whom hardly a minute has none by chance: one in 150
MJ_HPS_PER_W: Final = 10**15  # H/s times mJ/TH: 10^12 hashes a TH, 1,000 mW a W
USUAL_TERMS: Final = Terms()
NO_PACE: Final = Pace(0.0, 0)

Mines = Callable[[int], bool | None]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One machine. `watts` are what it draws when it mines. `exempt`: why no event asks it; `owner`: who
    has it."""

    worker: int
    name: MachineName
    tenant: int
    watts: int
    idle_watts: int
    mj_per_th: int  # 0: nothing is known of it
    hashrate_hps: int
    basis: str
    error_bps: int
    mines: bool
    site: str = ""
    exempt: str = ""
    owner: Owner | None = None
    pace: Pace = NO_PACE
    terms: Terms = USUAL_TERMS

    @property
    def shed_watts(self) -> int:
        """How much less it would draw."""
        return max(self.watts - self.idle_watts, 0)

    @property
    def held_off(self) -> bool:
        """By an event that goes on."""
        return self.owner is not None and self.owner.state in OFF and not self.owner.coming_back

    @property
    def drawn_watts(self) -> int:
        """What it draws now, or as soon as it is back."""
        if self.held_off:
            return self.idle_watts
        return self.watts if self.mines or self.owner is not None else 0

    @property
    def askable(self) -> bool:
        """Whether an event may choose it: also one that another event is about to let go."""
        if self.exempt:
            return False
        return self.mines if self.owner is None else self.owner.coming_back


class HourBefore(msgspec.Struct, frozen=True, kw_only=True):
    """What all machines of a site did in the window before a moment: half a second's reading for 5,600."""

    site: str
    from_s: int
    until_s: int
    work: Work
    spans: Mapping[int, "_Span"]

    def is_of(self, site: str, now_s: int) -> bool:
        return self.site == site and (self.from_s, self.until_s) == window(now_s)


def hour_before(connection: Connection, site: str, now_s: int) -> HourBefore:
    """Of a site, or of all (empty)."""
    from_s, until_s = window(now_s)
    return HourBefore(
        site=site,
        from_s=from_s,
        until_s=until_s,
        work=work_between(connection, site, from_s, until_s),
        spans=_spans(connection, from_s // 60, until_s // 60),
    )


def candidates(
    connection: Connection,
    site: str,
    now_s: int,
    mines: Mines | None = None,
    before: HourBefore | None = None,
) -> list[Candidate]:
    """All machines of a site (empty: of all sites), by number. `mines`: whether one has had a share lately,
    from who knows it better than the books, or None where he does not. `before`: the site's hour before this
    minute, of who has read it already."""
    before = hour_before(connection, site, now_s) if before is None else before
    work, spans, until_s = before.work, before.spans, before.until_s
    known = efficiencies_at(connection, now_s)
    terms, taken = terms_in_force(connection), owners(connection)
    exempt = {(it.tenant, it.container, it.unit): it.words for it in all_exemptions(connection)}
    found = []
    for row in connection.execute(_machines(site)):
        span = spans.get(row.id, NEVER)
        last = span.last
        efficiency = known.get(row.id)
        seconds = span.seconds(until_s)
        mined = work.get(row.id, {})
        done = bounded(mined, efficiency, seconds) if seconds > 0 else {}
        hashes, a_part = hashes_in_parts(done)
        parts_a_hps = a_part * max(seconds, 1)
        owner = taken.get(row.id)
        lately = last > until_s // 60 - MINES_MIN
        known_to_mine = None if mines is None else mines(row.id)
        name = MachineName(tenant=row.tenant, container=row.container, unit=row.unit)
        found.append(
            Candidate(
                worker=row.id,
                name=name,
                tenant=row.tenant_id,
                watts=_watts(hashes, parts_a_hps, efficiency) if owner is None else owner.watts_before,
                idle_watts=0 if efficiency is None else efficiency.idle_watts,
                mj_per_th=0 if efficiency is None else efficiency.mj_per_th,
                hashrate_hps=hashes // parts_a_hps,
                basis=(Basis.WORK if efficiency is not None else Basis.NAMEPLATE).value,
                error_bps=0 if efficiency is None else efficiency.error_bps,
                mines=lately if known_to_mine is None else known_to_mine,
                site=row.site or "",
                exempt=exempt.get((row.tenant, row.container, row.unit))
                or exempt.get((row.tenant, row.container, ""), ""),
                owner=owner,
                pace=pace_of(mined, done, seconds),
                terms=terms.get(row.tenant_id, USUAL_TERMS),
            )
        )
    return found


def _watts(parts: int, parts_a_hps: int, it: Efficiency | None) -> int:
    return 0 if it is None else parts * it.mj_per_th // (parts_a_hps * MJ_HPS_PER_W)


class _Span(msgspec.Struct, frozen=True):
    """When a machine mined: first and last minute, how many it had shares in, and how many shares."""

    first: int
    last: int
    minutes: int
    shares: int

    def seconds(self, until_s: int) -> int:
        """For how long: who has shares in every minute was off in those without, who has few was not."""
        if not self.shares:
            return 0
        often = self.shares >= SHARES_A_MINUTE * self.minutes
        return self.minutes * 60 if often else until_s - self.first * 60


NEVER: Final = _Span(0, 0, 0, 0)


def _spans(connection: Connection, first: int, after: int) -> dict[int, _Span]:
    of = tally_minutes.c
    query = (
        select(
            of.worker_id,
            func.min(of.minute),
            func.max(of.minute),
            func.count(of.minute.distinct()),
            func.sum(of.shares),
        )
        .where(of.minute >= first, of.minute < after, of.verdict == ACCEPTED)
        .group_by(of.worker_id)
    )
    return {row[0]: _Span(row[1], row[2], row[3], int(row[4])) for row in connection.execute(query)}


def _machines(site: str) -> Select[Any]:
    query = (
        select(
            workers.c.id,
            workers.c.unit,
            workers.c.tenant_id,
            containers.c.name.label("container"),
            tenants.c.name.label("tenant"),
            sites.c.name.label("site"),
        )
        .join(containers, containers.c.id == workers.c.container_id)
        .join(tenants, tenants.c.id == workers.c.tenant_id)
        .outerjoin(sites, sites.c.id == containers.c.site_id)
        .where(workers.c.removed_at_s.is_(None))
        .order_by(workers.c.id)
    )
    if site:
        query = query.where(sites.c.name == site)
    return query
