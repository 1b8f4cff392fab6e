"""Solo: a tenant whose blocks pay it themselves, the pool's fee aside.

The coinbase of a solo tenant's work has one output for the tenant and one for the pool's fee, floor(value *
fee_bps / 10000); a fee that nodes would call dust has no output and is the tenant's. Nothing accrues for
the shares of such work. A block of it is the tenant's: the pool's income from it is the fee's output.

An address that was changed holds after 72 hours, as for payouts; until then blocks pay the one before it,
because a block has to pay somebody. One that was changed again before it held never does: who changed it for
an hour gets no block, not then and not 72 hours later.

Invariants: amount and fee are all of the block's value. A block's payee is the one that its coinbase was made
for, whoever found it and whatever the terms say by then. Must not know: jobs, channels, nodes.
"""

from collections.abc import Iterable

import msgspec
from sqlalchemy import Connection, insert, select

from payouts.batches.transaction import dust_sat
from payouts.rates import BPS
from payouts.schemas.money import solo_blocks, tenant_addresses

SCHEDULE_MAX = 2  # what holds now, and what will
DUST_SAT_MAX = 546  # of the costliest standard script to spend, P2PKH


class Payee(msgspec.Struct, frozen=True):
    """An address that a tenant's blocks pay, and from when on."""

    from_s: int
    address: str


class SoloPayout(msgspec.Struct, frozen=True, kw_only=True):
    """What one block pays: the tenant, and the pool its fee."""

    tenant_id: int
    address: str
    script: bytes  # of the address
    amount_sat: int
    fee_sat: int  # 0: there is no output for it

    def outputs(self, pool_script: bytes) -> tuple[tuple[bytes, int], ...]:
        """Of the coinbase: the tenant's is the first."""
        tenants = (self.script, self.amount_sat)
        return (tenants, (pool_script, self.fee_sat)) if self.fee_sat else (tenants,)


def fee_of(value_sat: int, fee_bps: int, pool_script: bytes) -> int:
    """The pool's part of a block's value; nothing where it is not worth an output."""
    fee_sat = value_sat * fee_bps // BPS
    return fee_sat if fee_sat >= dust_sat(pool_script) else 0


def is_fee(fee_sat: int, value_sat: int, fee_bps: int) -> bool:
    """Whether that can be the pool's part of a block's value, whatever its script is."""
    exact_sat = value_sat * fee_bps // BPS
    return fee_sat == exact_sat if fee_sat else exact_sat < DUST_SAT_MAX


def schedule(changes: Iterable[tuple[int, int, str]]) -> tuple[Payee, ...]:
    """Which address blocks pay from when, of changes (changed at, effective from, address), oldest first."""
    held: list[Payee] = []
    for changed_at_s, effective_at_s, address in changes:
        while len(held) > 1 and held[-1].from_s > changed_at_s:  # the first stands, whom else is it to pay?
            held.pop()
        held.append(Payee(effective_at_s, address))
    return tuple(held[-SCHEDULE_MAX:])


def address_at(payees: tuple[Payee, ...], now_s: int) -> str | None:
    """What a block pays that is mined now; None: there is no address."""
    if not payees:
        return None
    return next((it.address for it in reversed(payees) if it.from_s <= now_s), payees[0].address)


def record_solo(connection: Connection, block_hash: str, payout: SoloPayout) -> None:
    """Whose a block is, which this transaction has booked with the fee as the pool's income from it."""
    connection.execute(
        insert(solo_blocks).values(
            block_hash=block_hash,
            tenant_id=payout.tenant_id,
            address=payout.address,
            amount_sat=payout.amount_sat,
        )
    )


def owner_of(connection: Connection, scripts: dict[str, bytes], script: bytes) -> tuple[int, str] | None:
    """The tenant, and its address, that a script pays; `scripts` is of every address on record.

    Of two tenants with one address, the one that had it first.
    """
    rows = connection.execute(
        select(tenant_addresses.c.tenant_id, tenant_addresses.c.address).order_by(tenant_addresses.c.id)
    )
    return next(((tenant_id, address) for tenant_id, address in rows if scripts.get(address) == script), None)
