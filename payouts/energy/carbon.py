"""What a kWh is in carbon: mg of CO2e, by hours, by two methods that are never mixed.

Location-based is the mix of the grid that a site is on; market-based is by contracts and certificates
(GHG Protocol, Scope 2 Guidance, 2015). Each comes with its source, which is told wherever a sum is.

Invariants: integers and fractions; of several for an hour the newest holds, one of the site before one of all
sites; energy of an hour that nobody has said anything for is counted as such, and is not zero carbon.
Must not know: what energy costs.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from fractions import Fraction
from typing import Final

import msgspec
from sqlalchemy import Connection, insert, select

from payouts.book_time import book_time
from payouts.energy.tariffs import J_PER_KWH, BadTariff, check_words
from payouts.schemas.energy import power_carbon

MG_PER_KWH_MAX: Final = 10**7  # 10 kg: lignite has 1.2
ROWS_MAX: Final = 8_784  # of a file: a leap year of hours
SOURCES_SHOWN_MAX: Final = 20


class Method(StrEnum):
    """By what a kWh's carbon is counted."""

    LOCATION = "location"
    MARKET = "market"


class NewCarbon(msgspec.Struct, frozen=True, kw_only=True):
    """For the hours from `from_hour` up to but not `until_hour`."""

    method: Method
    from_hour: int
    until_hour: int
    mg_per_kwh: int
    source: str
    site_id: int | None = None  # all of them

    def __post_init__(self) -> None:
        check_words("a source", self.source)
        if not 0 <= self.mg_per_kwh <= MG_PER_KWH_MAX:
            raise BadTariff(f"{self.mg_per_kwh} mg for a kWh is not between 0 and {MG_PER_KWH_MAX}")
        if not 0 <= self.from_hour < self.until_hour:
            raise BadTariff("carbon is of hours, the first before the last")


class CarbonView(msgspec.Struct, frozen=True, kw_only=True):
    """As it is listed."""

    id: int
    site_id: int | None
    method: Method
    from_s: int
    until_s: int
    mg_per_kwh: int
    source: str
    added_at_s: int
    added_by: str


class Carbon(msgspec.Struct, frozen=True, kw_only=True):
    """A sum by one method: of `known_j` joules; for the others there is no figure."""

    method: Method
    mg: int
    known_j: int
    sources: tuple[str, ...]


Energy = Mapping[tuple[int | None, int], int]  # joules by site and hour; of a correction maybe less than none


def add_carbon(connection: Connection, rows: Iterable[NewCarbon], *, by: str, now_s: int) -> int:
    """Write them down; how many."""
    at_s, count = book_time(connection, now_s), 0
    for it in rows:
        values = msgspec.structs.asdict(it) | {"method": it.method.value}
        connection.execute(insert(power_carbon).values(**values, added_at_s=at_s, added_by=by))
        count += 1
    return count


def list_carbon(connection: Connection, rows_max: int) -> tuple[CarbonView, ...]:
    """The newest, and of these the newest last."""
    rows = connection.execute(select(power_carbon).order_by(power_carbon.c.id.desc()).limit(rows_max))
    return tuple(
        CarbonView(
            id=row.id,
            site_id=row.site_id,
            method=Method(row.method),
            from_s=row.from_hour * 3600,
            until_s=row.until_hour * 3600,
            mg_per_kwh=row.mg_per_kwh,
            source=row.source,
            added_at_s=row.added_at_s,
            added_by=row.added_by,
        )
        for row in reversed(rows.all())
    )


def any_between(connection: Connection, from_hour: int, until_hour: int) -> bool:
    """Whether anything is said of hours in between."""
    of = power_carbon.c
    said = select(of.id).where(of.until_hour > from_hour, of.from_hour < until_hour).limit(1)
    return connection.scalar(said) is not None


def carbon_of(connection: Connection, energy: Energy, method: Method, known_by_s: int) -> Carbon:
    """The carbon of this energy, by what was said before `known_by_s`: asked again it is the same."""
    mg_j, known_j, sources = 0, 0, set()  # mg by kWh, times joules
    if energy:
        figures = _figures(connection, energy, method, known_by_s)
        for key, joules in energy.items():
            if key in figures:
                per_kwh, source = figures[key]
                mg_j += joules * per_kwh
                known_j += joules
                sources.add(source)
    shown = tuple(sorted(sources)[:SOURCES_SHOWN_MAX])
    return Carbon(method=method, mg=round(Fraction(mg_j, J_PER_KWH)), known_j=known_j, sources=shown)


def _figures(
    connection: Connection, energy: Energy, method: Method, known_by_s: int
) -> dict[tuple[int | None, int], tuple[int, str]]:
    """Of each site and hour, what holds: rows are read once, those that count first before the others."""
    hours = [hour for _, hour in energy]
    of = power_carbon.c
    rows = connection.execute(
        select(power_carbon)
        .where(
            of.method == method.value,
            of.until_hour > min(hours),
            of.from_hour <= max(hours),
            of.added_at_s < known_by_s,
        )
        .order_by(of.site_id.is_(None), of.id.desc())
    ).all()
    by_site: dict[int | None, list[int]] = {}
    for site, hour in energy:
        by_site.setdefault(site, []).append(hour)
    found: dict[tuple[int | None, int], tuple[int, str]] = {}
    for site, of_site in by_site.items():
        left = set(of_site)
        for row in rows:
            if row.site_id is not None and row.site_id != site:
                continue
            span = range(row.from_hour, row.until_hour)
            few, many = (span, left) if len(span) < len(left) else (left, span)
            covered = {hour for hour in few if hour in many}
            found |= {(site, hour): (row.mg_per_kwh, row.source) for hour in covered}
            left -= covered
            if not left:
                break
    return found
