"""What a kWh costs at a site at a moment, in satoshi: its tariff, at the exchange rate that holds then.

For who decides whether a machine pays for its energy; charges have prices of their own (`charges`).
Must not know: machines, and what they earn.
"""

from fractions import Fraction

from sqlalchemy import Connection, func, select

from payouts.energy.exchange import exchange_at
from payouts.energy.tariffs import HOUR_S, MICRO, month_of, tariff_at
from payouts.schemas.energy import booked_energy
from payouts.schemas.money import sites


def price_at(connection: Connection, site: str, at_s: int) -> Fraction | None:
    """Satoshi for the next kWh at the site of that name (empty: at one that nobody has named); None where it
    has no tariff then, or the tariff's currency no exchange rate. Of tiers it is the one that the energy of
    the whole site has reached this month."""
    site_id = connection.scalar(select(sites.c.id).where(sites.c.name == site)) if site else None
    hour = at_s // HOUR_S
    tariff = tariff_at(connection, site_id, hour)
    if tariff is None:
        return None
    exchange = exchange_at(connection, tariff.currency, hour * HOUR_S)
    if exchange is None:
        return None
    reached_j = _month_j(connection, site_id, hour) if tariff.tiers else 0
    return exchange.sat * tariff.marginal_micro(reached_j) / MICRO


def _month_j(connection: Connection, site_id: int | None, hour: int) -> int:
    """What was drawn there of the hour's month, as far as the books have it."""
    first, after = month_of(hour)
    of = booked_energy.c
    drawn = select(func.sum(of.metered_j + of.estimated_j)).where(
        of.site_id.is_not_distinct_from(site_id), of.hour >= first, of.hour < after
    )
    return int(connection.scalar(drawn) or 0)
