"""What a tenant pays for the energy of its machines, and its part of what the grid pays: its hosting terms.

A fee of so much a kWh, or the site's tariff as it is; nothing without terms. They begin with an hour that has
not begun when they are said, so nobody is charged by terms that came after the energy.

Invariants: history is kept, a row for each change. Must not know: what energy was drawn.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select

from payouts.book_time import book_time
from payouts.energy.tariffs import HOUR_S, BadTariff, check_currency, check_price
from payouts.rates import BPS
from payouts.schemas.energy import hosting_terms


class Charge(StrEnum):
    """By what a tenant pays for energy."""

    NONE = "none"
    FEE = "fee"
    TARIFF = "tariff"


class HostingTerms(msgspec.Struct, frozen=True, kw_only=True):
    """`fee_micro` is of a kWh, in `currency`; `grid_operator_bps` is what the operator keeps of
    a payment from the grid for this tenant's machines."""

    charge: Charge = Charge.NONE
    fee_micro: int | None = None
    currency: str | None = None
    grid_operator_bps: int = 0

    def __post_init__(self) -> None:
        fee = self.charge is Charge.FEE
        if {self.fee_micro is not None, self.currency is not None} != {fee}:
            raise BadTariff("a fee has a price and a currency, and nothing else has")
        if self.fee_micro is not None:
            check_price(self.fee_micro)
        if self.currency is not None:
            check_currency(self.currency)
        if not 0 <= self.grid_operator_bps <= BPS:
            raise BadTariff("the operator's part is 0 to 100 percent")


class TermsOf(HostingTerms, frozen=True, kw_only=True):
    """Terms with their number and since when they hold."""

    id: int
    from_s: int
    changed_at_s: int
    changed_by: str


def set_terms(
    connection: Connection, tenant_id: int, terms: HostingTerms, *, by: str, now_s: int, from_s: int | None
) -> int:
    """Their number. `from_s` None: the next hour that begins. Raises BadTariff for the past."""
    changed_at_s = book_time(connection, now_s)
    next_s = -(-changed_at_s // HOUR_S) * HOUR_S
    begins_s = next_s if from_s is None else from_s
    if begins_s % HOUR_S or begins_s < next_s:
        raise BadTariff(
            "terms begin with an hour that has not begun: energy of before is not charged by them"
        )
    made = insert(hosting_terms).values(
        tenant_id=tenant_id,
        charge=terms.charge.value,
        fee_micro=terms.fee_micro,
        currency=terms.currency,
        grid_operator_bps=terms.grid_operator_bps,
        from_s=begins_s,
        changed_at_s=changed_at_s,
        changed_by=by,
    )
    return int(connection.execute(made.returning(hosting_terms.c.id)).scalar_one())


def terms_at(connection: Connection, tenant_id: int, at_s: int) -> TermsOf | None:
    """What holds then: of all that had begun, what was said last."""
    of = hosting_terms.c
    row = connection.execute(
        select(hosting_terms)
        .where(of.tenant_id == tenant_id, of.from_s <= at_s)
        .order_by(of.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else terms_of(row)


def held_at(history: Sequence[TermsOf], at_s: int) -> TermsOf | None:
    """The same, of all that there ever were of a tenant."""
    return next((it for it in reversed(history) if it.from_s <= at_s), None)


def terms_of(row: Row[Any]) -> TermsOf:
    return TermsOf(
        id=row.id,
        charge=Charge(row.charge),
        fee_micro=row.fee_micro,
        currency=row.currency,
        grid_operator_bps=row.grid_operator_bps,
        from_s=row.from_s,
        changed_at_s=row.changed_at_s,
        changed_by=row.changed_by,
    )


def history_of(connection: Connection, tenant_id: int) -> tuple[TermsOf, ...]:
    """All that there ever were, in the order in which they were said."""
    of = hosting_terms.c
    rows = connection.execute(select(hosting_terms).where(of.tenant_id == tenant_id).order_by(of.id))
    return tuple(terms_of(row) for row in rows)
