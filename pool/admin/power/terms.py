"""The operator's commands for what tenants agreed to, and for machines that no event asks.

A tenant's terms say what it may be asked for: they are money, and may have to wait for a second person.
Must not know: terminals.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection

from pool.admin.command import Change, Commands, Guarded, Question
from pool.admin.desk import Desk, OperatorDesk, wall_s
from pool.admin.pages import Page, Paged, page_of
from pool.books.changes.changes import State
from pool.people.roles import Role
from pool.power.curtailment.terms import (
    BPS,
    USUAL,
    Exemption,
    Terms,
    TermsView,
    all_exemptions,
    all_terms,
    end_exemption,
    exempt,
    find_exemption,
    set_terms,
)


class PowerTerms(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class PowerSetTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`priority` 1 is asked first, `curtailable_bps` of its power at most is asked for."""

    tenant: str
    priority: int = USUAL
    curtailable_bps: int = BPS


class PowerExemptions(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class PowerExempt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """tenant.container, or tenant.container.unit."""

    machines: str
    reason: str


class PowerUnexempt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    machines: str


def power_terms(desk: Desk, it: PowerTerms) -> Page[TermsView]:
    return page_of(it, desk.read(all_terms), lambda row: (row.tenant,))


def power_set_terms(desk: OperatorDesk, it: PowerSetTerms) -> TermsView:
    terms = Terms(priority=it.priority, curtailable_bps=it.curtailable_bps)
    return desk.write(lambda connection: set_terms(connection, it.tenant, terms, by=desk.by, now_s=wall_s()))


def power_exemptions(desk: Desk, it: PowerExemptions) -> Page[Exemption]:
    return page_of(it, desk.read(all_exemptions), lambda row: (row.tenant, row.container, row.unit))


def power_exempt(desk: OperatorDesk, it: PowerExempt) -> Exemption:
    return desk.write(
        lambda connection: exempt(connection, it.machines, reason=it.reason, by=desk.by, now_s=wall_s())
    )


def power_unexempt(desk: OperatorDesk, it: PowerUnexempt) -> Exemption:
    return desk.write(lambda connection: end_exemption(connection, it.machines))


def one_tenant(it: PowerSetTerms) -> str:
    return it.tenant


def the_machines(it: PowerExempt | PowerUnexempt) -> str:
    return it.machines


def terms_state(connection: Connection, subject: str) -> State:
    found = (it for it in all_terms(connection) if it.tenant == subject)
    return next((msgspec.to_builtins(it) for it in found), None)


def exemption_state(connection: Connection, subject: str) -> State:
    found = find_exemption(connection, subject)
    return None if found is None else msgspec.to_builtins(found)


COMMANDS: Final[Commands] = {
    "power.terms": Question(PowerTerms, power_terms),
    "power.set-terms": Guarded(
        PowerSetTerms, power_set_terms, one_tenant, terms_state, Role.PAYER, makes_books=False
    ),
    "power.exemptions": Question(PowerExemptions, power_exemptions),
    "power.exempt": Change(
        PowerExempt, power_exempt, the_machines, exemption_state, Role.OPERATOR, makes_books=False
    ),
    "power.unexempt": Change(
        PowerUnexempt, power_unexempt, the_machines, exemption_state, Role.OPERATOR, makes_books=False
    ),
}
