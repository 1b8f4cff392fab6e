"""What a tenant gets of an hour: its settlements, the closings that they are in, and their shares, all of
them or one with its way to the root. `angara verify` reads it.

Invariants: nothing in it depends on when it is asked for. Must not know: who asks, how it is shown.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from payouts.proof.angara_verify import VERSION
from payouts.proof.closings import Closing, Settled, closings, leaf_of, names_of, settled, tree_of
from payouts.proof.share_tree import Share, Tree, unpacked
from payouts.schemas.money import settlements, tenants
from payouts.schemas.proof import share_leaves, share_roots
from payouts.statements.period import utc


class NoShares(ValueError):
    """There is nothing to be proven: why, in words."""


class ProofShare(msgspec.Struct, frozen=True, kw_only=True):
    """A share as it was hashed, who was credited for it, at which difficulty, and when it was counted."""

    header: str
    worker: str
    difficulty_log2: int
    minute_utc: str


class ProofOfShare(ProofShare, frozen=True, kw_only=True):
    """The same with its way to the settlement's root, from below; bit i of `index` says it is right."""

    index: int
    path: tuple[str, ...]


class ClosedSettlement(msgspec.Struct, frozen=True, kw_only=True):
    """A settlement with its way to the root of its closing, and all of its shares in their order, or one."""

    closing: int
    path: tuple[str, ...]
    settlement: Settled
    shares: tuple[ProofShare, ...] | tuple[ProofOfShare, ...]


class HourOfShares(msgspec.Struct, frozen=True, kw_only=True):
    """`whole`: all that is closed of the hour by the last of these closings; otherwise one share."""

    version: int
    tenant: str
    hour_utc: str
    whole: bool
    closings: tuple[Closing, ...]
    settlements: tuple[ClosedSettlement, ...]


def shares_of_hour(
    connection: Connection, tenant: str, hour: int, *, share: bytes | None = None
) -> HourOfShares:
    """Of that hour (since 1970), or the share with that hash. Raises NoShares."""
    rows = _rows(connection, tenant, hour)
    known: dict[int, tuple[Closing, tuple[Settled, ...], Tree]] = {}
    found = []
    for row in rows:
        if row.closing not in known:
            (closing,) = closings(connection, row.closing, 1)
            leaves = settled(connection, closing)
            known[row.closing] = closing, leaves, tree_of(leaves)
        closing, leaves, tree = known[row.closing]
        at = row.seq - closing.first_settlement
        shares = _shares(connection, row, leaves[at], share)
        if share is None or shares:
            found.append(
                ClosedSettlement(
                    closing=closing.number,
                    path=tuple(it.hex() for it in tree.path(at)),
                    settlement=leaves[at],
                    shares=shares,
                )
            )
    if not found:
        raise NoShares(f"{share[::-1].hex() if share else 'it'} is not among the shares that were kept then")
    used = sorted({it.closing for it in found})
    return HourOfShares(
        version=VERSION,
        tenant=tenant,
        hour_utc=utc(hour * 3600),
        whole=share is None,
        closings=tuple(known[number][0] for number in used),
        settlements=tuple(found),
    )


def _rows(connection: Connection, tenant: str, hour: int) -> list[Row[Any]]:
    of = settlements.c
    query = (
        select(of.seq, share_roots.c.closing, share_leaves.c.packed)
        .join(tenants, tenants.c.id == of.tenant_id)
        .join(share_roots, share_roots.c.settlement_seq == of.seq)
        .join(share_leaves, share_leaves.c.settlement_seq == of.seq, isouter=True)
        .where(tenants.c.name == tenant, of.hour == hour)
        .order_by(of.seq)
    )
    rows: list[Row[Any]] = list(connection.execute(query))
    if not rows:
        raise NoShares(
            f"nothing of {tenant} is closed of {datetime.fromtimestamp(hour * 3600, UTC):%Y-%m-%dT%H}Z:"
            " an hour is closed when it is settled, from when the pool first had a key"
        )
    return rows


def _shares(
    connection: Connection, row: Row[Any], leaf: Settled, wanted: bytes | None
) -> tuple[ProofShare, ...] | tuple[ProofOfShare, ...]:
    if row.packed is None:
        if leaf.kept:
            raise NoShares("its shares are not here any more: they are kept for 400 days")
        return ()
    kept = unpacked(row.packed)
    names = names_of(connection, {it.worker_id for it in kept})
    if wanted is None:
        return tuple(ProofShare(**_said(it, names)) for it in kept)
    at = next((at for at, it in enumerate(kept) if it.hash == wanted), None)
    if at is None:
        return ()
    path = Tree([leaf_of(it, names) for it in kept]).path(at)
    return (ProofOfShare(**_said(kept[at], names), index=at, path=tuple(it.hex() for it in path)),)


def _said(it: Share, names: dict[int, str]) -> dict[str, Any]:
    return {
        "header": it.header.hex(),
        "worker": names[it.worker_id],
        "difficulty_log2": it.difficulty_log2,
        "minute_utc": utc(it.minute * 60),
    }
