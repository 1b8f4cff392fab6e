"""Who would be paid now, how much, and who is held back and why.

A tenant is paid all of its payable balance, less what it owes for energy, to its newest address, or nothing.
The reasons to hold it back are looked at in the order of `Held`, the first that applies is the one told.

Invariants: reads only. An address that is not in force yet holds the tenant back: its money does not go to
the address before it either. Amounts are whole satoshi: what the carry holds is not payable yet.

Must not know: coins, fees of the network, how an address becomes a script (it is told).
"""

from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec
from sqlalchemy import Connection, func, select

from payouts.batches.batch import PAYEES_MAX, Item
from payouts.batches.schema import payout_items
from payouts.batches.transaction import dust_sat
from payouts.energy.held import HeldForEnergy, held_for_energy
from payouts.ledger import balances_sat, canonical_hash, payable
from payouts.schemas.money import tenant_addresses, tenant_terms, tenants


class Held(StrEnum):
    """Why a tenant with a balance is not paid, in the order in which it is looked at."""

    SUSPENDED = "the tenant is suspended"
    NO_ADDRESS = "there is no payout address"
    NEW_ADDRESS = "the payout address was changed and is not in force yet"
    BAD_ADDRESS = "the payout address cannot be paid to"
    ENERGY = "energy of its machines has no price yet, and nobody knows what it will owe"
    BELOW_MINIMUM = "the balance is below the minimum"
    DUST = "the balance is dust: the network would not relay it"
    FULL = "the batch is full: the next one pays it"


class HeldBack(msgspec.Struct, frozen=True, kw_only=True):
    """A balance that stays where it is."""

    tenant: str
    balance_sat: int
    reason: Held
    detail: str


class Plan(msgspec.Struct, frozen=True):
    """What a batch would be made of."""

    items: tuple[Item, ...]
    held_back: tuple[HeldBack, ...]

    @property
    def total_sat(self) -> int:
        """What the payees would get."""
        return sum(item.amount_sat for item in self.items)


# The script that pays an address; raises ValueError with the reason where there is none.
ScriptOf = Callable[[str], bytes]


class _Tenant(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    name: str
    status: str
    minimum_sat: int | None
    address: str | None
    effective_at_s: int | None


def plan(connection: Connection, now_s: int, script_of: ScriptOf, minimum_sat: int) -> Plan:
    """The batch that could be drafted now; `minimum_sat` is the pool's own, for everybody."""
    balances, energy = balances_sat(connection), held_for_energy(connection)
    items: list[Item] = []
    held_back: list[HeldBack] = []
    for tenant in _tenants(connection):
        balance_sat = balances.get(payable(tenant.id), 0)
        if balance_sat <= 0:
            continue
        held = energy.get(tenant.id)
        found = _judge(tenant, balance_sat, now_s, script_of, minimum_sat, held)
        if isinstance(found, bytes) and len(items) == PAYEES_MAX:
            found = (Held.FULL, f"{PAYEES_MAX} payees are in it")
        if isinstance(found, bytes):
            items.append(
                Item(
                    position=len(items),
                    tenant_id=tenant.id,
                    tenant=tenant.name,
                    address=tenant.address or "",
                    script=found,
                    amount_sat=balance_sat - (held.sat if held else 0),
                )
            )
        else:
            held_back.append(
                HeldBack(tenant=tenant.name, balance_sat=balance_sat, reason=found[0], detail=found[1])
            )
    return Plan(tuple(items), tuple(held_back))


def outdated(connection: Connection, items: Iterable[Item], now_s: int) -> str | None:
    """Why these outputs must not be paid any more, None when they still may: since the draft a tenant was
    suspended, or has another address."""
    by_id = {tenant.id: tenant for tenant in _tenants(connection)}
    for item in items:
        tenant = by_id[item.tenant_id]
        if tenant.status != "active":
            return f"{tenant.name} is suspended now"
        if tenant.address != item.address or (tenant.effective_at_s or 0) > now_s:
            return f"{tenant.name} has another payout address now"
    return None


def digest(items: Iterable[Item]) -> str:
    """SHA-256 of all outputs in their order, with whom they are for: what is approved."""
    return canonical_hash(
        [[it.position, it.tenant_id, it.address, it.script.hex(), it.amount_sat] for it in items]
    )


def payees_by_script(connection: Connection, script_of: ScriptOf) -> dict[bytes, tuple[Item, ...]]:
    """Every tenant that ever had an address, by its script; position and amount are to be filled in."""
    rows = connection.execute(
        select(tenant_addresses.c.tenant_id, tenant_addresses.c.address, tenants.c.name)
        .join(tenants, tenants.c.id == tenant_addresses.c.tenant_id)
        .distinct()
        .order_by(tenant_addresses.c.tenant_id, tenant_addresses.c.address)
    )
    found: dict[bytes, tuple[Item, ...]] = {}
    for tenant_id, address, name in rows:
        try:
            script = script_of(address)
        except ValueError:
            continue
        item = Item(
            position=0, tenant_id=tenant_id, tenant=name, address=address, script=script, amount_sat=0
        )
        found[script] = (*found.get(script, ()), item)
    return found


def _judge(
    tenant: _Tenant,
    balance_sat: int,
    now_s: int,
    script_of: ScriptOf,
    minimum_sat: int,
    held: HeldForEnergy | None,
) -> bytes | tuple[Held, str]:
    """The script to pay to, or why not."""
    if tenant.status != "active":
        return Held.SUSPENDED, ""
    if tenant.address is None or tenant.effective_at_s is None:
        return Held.NO_ADDRESS, ""
    if tenant.effective_at_s > now_s:
        return Held.NEW_ADDRESS, f"for {-((now_s - tenant.effective_at_s) // 3600)} h more"
    try:
        script = script_of(tenant.address)
    except ValueError as error:
        return Held.BAD_ADDRESS, str(error)
    if held is not None and held.unknown_hours:
        return Held.ENERGY, f"{held.unknown_hours} hours"
    least_sat = max(minimum_sat, tenant.minimum_sat or 0, 1)
    owes_sat = 0 if held is None else held.sat
    if balance_sat - owes_sat < least_sat:
        owed = f", and {owes_sat} sat are held back for energy" if owes_sat else ""
        return Held.BELOW_MINIMUM, f"{least_sat} sat{owed}"
    if balance_sat - owes_sat < dust_sat(script):
        return Held.DUST, f"less than {dust_sat(script)} sat"
    return script


def _tenants(connection: Connection) -> tuple[_Tenant, ...]:
    """All tenants with their terms in force and newest address; who was paid longest ago comes first, so
    that a full batch leaves nobody out twice."""
    newest_terms = (
        select(tenant_terms.c.tenant_id, func.max(tenant_terms.c.id).label("id"))
        .group_by(tenant_terms.c.tenant_id)
        .subquery()
    )
    newest_address = (
        select(tenant_addresses.c.tenant_id, func.max(tenant_addresses.c.id).label("id"))
        .group_by(tenant_addresses.c.tenant_id)
        .subquery()
    )
    last_batch = (
        select(payout_items.c.tenant_id, func.max(payout_items.c.batch_id).label("id"))
        .group_by(payout_items.c.tenant_id)
        .subquery()
    )
    rows = connection.execute(
        select(
            tenants.c.id,
            tenants.c.name,
            tenants.c.status,
            tenant_terms.c.payout_minimum_sat.label("minimum_sat"),
            tenant_addresses.c.address,
            tenant_addresses.c.effective_at_s,
        )
        .outerjoin(newest_terms, newest_terms.c.tenant_id == tenants.c.id)
        .outerjoin(tenant_terms, tenant_terms.c.id == newest_terms.c.id)
        .outerjoin(newest_address, newest_address.c.tenant_id == tenants.c.id)
        .outerjoin(tenant_addresses, tenant_addresses.c.id == newest_address.c.id)
        .outerjoin(last_batch, last_batch.c.tenant_id == tenants.c.id)
        .order_by(func.coalesce(last_batch.c.id, 0), tenants.c.name)
    ).mappings()
    return tuple(_Tenant(**row) for row in rows)
