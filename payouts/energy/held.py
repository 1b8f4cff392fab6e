"""What a payout holds back of a tenant's balance: what it owes for energy, and what it will for energy that
is drawn and not charged yet.

Who is paid all of his credit before his energy is charged has had it for nothing, and may never come back.
Energy without a price yet is held back at what the tenant's charges of a day cost a joule: where prices are
by the hour, that of the last one alone may be next to nothing. Of a tenant that was never charged nobody
knows, and nothing is paid.

Invariants: reads only; rounded up. Must not know: payouts.
"""

from fractions import Fraction
from math import ceil
from typing import Final

import msgspec
from sqlalchemy import Connection, func, select

from payouts.energy.dues import dues_sat
from payouts.rates import PSAT_PER_SAT
from payouts.schemas.energy import energy_charges, energy_to_charge

CHARGES: Final = 24  # of a tenant's last: a day at one site


class HeldForEnergy(msgspec.Struct, frozen=True, kw_only=True):
    """`unknown_hours`: so many hours have energy at a price that nobody can guess."""

    sat: int
    unknown_hours: int = 0


def held_for_energy(connection: Connection) -> dict[int, HeldForEnergy]:
    """By tenant, where there is anything."""
    held = {it: HeldForEnergy(sat=sat) for it, sat in dues_sat(connection).items() if sat > 0}
    of = energy_to_charge.c
    waiting = connection.execute(
        select(of.tenant_id, func.sum(of.joules - of.charged_j).label("joules"), func.count().label("hours"))
        .where(of.terms_id.is_not(None), of.charged_j != of.joules)
        .group_by(of.tenant_id)
    )
    for row in waiting:
        due = held[row.tenant_id].sat if row.tenant_id in held else 0
        cost_sat = _usual_cost_sat(connection, row.tenant_id)
        if cost_sat is None:
            held[row.tenant_id] = HeldForEnergy(sat=due, unknown_hours=row.hours)
        else:
            expected = max(ceil(cost_sat * int(row.joules)), 0)
            held[row.tenant_id] = HeldForEnergy(sat=due + expected)
    return {it: of_it for it, of_it in held.items() if of_it.sat or of_it.unknown_hours}


def _usual_cost_sat(connection: Connection, tenant_id: int) -> Fraction | None:
    """What a joule cost the tenant, of its last charges together; energy that was taken back is none."""
    of = energy_charges.c
    last = (
        select(of.joules, of.amount_sat, of.amount_psat)
        .where(of.tenant_id == tenant_id, of.joules > 0)
        .order_by(of.seq.desc())
        .limit(CHARGES)
    )
    rows = connection.execute(last).all()
    if not rows:
        return None
    cost_psat = sum(row.amount_sat * PSAT_PER_SAT + row.amount_psat for row in rows)
    return Fraction(cost_psat, sum(row.joules for row in rows) * PSAT_PER_SAT)
