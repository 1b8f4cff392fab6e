"""Closing settlements: one signed row has the root of what was settled, and of which shares.

Each settlement is a leaf, in its order, with what it was paid by (shares of each difficulty), the root of
its shares that were kept, and a nonce, so that no other tenant can guess what it says. A closing goes on
where the one before it ended, so a settlement is in one and no other, and what comes late is a settlement,
and a leaf, of its own. The first closing begins with the newest hour that was settled by then.

Invariants: rows are a chain by their hashes, and each names the ledger's head as its settlements left it. A
share is in one root, in the transaction that takes it from the parts. Must not know: where the key is kept.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, exists, func, insert, select

from payouts.accrual import GRACE_S
from payouts.book_time import latest_s
from payouts.ledger import GENESIS_HASH
from payouts.proof.angara_verify import canonical, closing_hash, settled_leaf, share_leaf
from payouts.proof.key import ProofKey
from payouts.proof.links import next_link, see_that_it_signs
from payouts.proof.roots import binding
from payouts.proof.share_tree import Share, Tree, in_order, packed
from payouts.rates import PSAT_PER_SAT
from payouts.schemas.many import among
from payouts.schemas.money import (
    containers,
    ledger_transactions,
    rate_hours,
    rates,
    settled_shares,
    settlements,
    tenants,
    workers,
)
from payouts.schemas.orders import orders
from payouts.schemas.proof import share_closings, share_leaves, share_parts, share_roots
from payouts.statements.period import utc

# Of one closing: an hour of twenty tenants has some hundred and fifty.
SETTLEMENTS_MAX = 4_096
KEPT_S = 400 * 86_400  # shares themselves; roots are for ever
FORGOTTEN_MAX = 200  # rows in one transaction
UNSETTLED_KEPT_S = 31 * 86_400  # shares of which nothing was ever credited: no site is away for longer


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """A closing's leaf. `shares` were credited and `kept` of them are in the tree of `root`, both by the
    exponent of their difficulty; kept are those whose hash is of difficulty 2**from_log2 or more.

    `forwarded`: to an upstream, which may have rejected what is kept."""

    settlement: int
    tenant: str
    rate: int
    order: str | None
    forwarded: bool
    hour_utc: str
    part: int
    shares: dict[str, int]
    credit_psat: int
    posted_sat: int
    from_log2: int
    kept: dict[str, int]
    root: str
    nonce: str


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """A row as it is published, and hashed: `hash` and `signature` are over all the rest."""

    number: int
    first_settlement: int
    last_settlement: int
    root: str
    ledger_seq: int
    ledger_hash: str
    network: str
    genesis: str
    book: str
    key: str
    previous: str
    hash: str = ""
    signature: str = ""


class ToNote(msgspec.Struct, frozen=True):
    """A closing, with the leaves and shares that it is of; `read` is up to where each writer's parts of a
    rate's hour are in it."""

    closing: Closing
    leaves: tuple[Settled, ...]
    shares: dict[int, bytes]  # packed, by settlement
    read: dict[tuple[int, int, str], int]


def due(connection: Connection) -> tuple[int, int] | None:
    """The first and the last settlement that are to be closed now; None while more is to be settled."""
    of = settlements.c
    newest = connection.scalar(select(func.max(of.seq)))
    before = connection.scalar(select(func.max(share_closings.c.last_settlement)))
    if newest is None or binding(connection) is None:
        return None
    first: int
    if before is None:
        hour = select(func.max(of.hour)).scalar_subquery()
        first = connection.execute(select(func.min(of.seq)).where(of.hour == hour)).scalar_one()
    else:
        first = before + 1
    if newest < first:
        return None
    unsettled = exists().where(
        rate_hours.c.settled < rate_hours.c.shares,
        rate_hours.c.hour < (latest_s(connection) - GRACE_S) // 3600,
    )
    if newest - first < SETTLEMENTS_MAX and connection.scalar(select(unsettled)):
        return None
    return first, min(newest, first + SETTLEMENTS_MAX - 1)


def closed(connection: Connection, key: ProofKey, first: int, last: int, from_log2: int) -> ToNote:
    """The closing of these settlements, which are due, with shares whose hash is of difficulty 2**from_log2
    or more. Reads only. Raises NoSigning."""
    see_that_it_signs(connection, key)
    bound = binding(connection)
    assert bound is not None
    network, genesis, book_id = bound
    number, previous = next_link(connection, share_closings)
    leaves, shares, read = [], {}, {}
    taken: set[tuple[int, int]] = set()
    for row, counted in settled_rows(connection, first, last):
        of = (row.rate_id, row.hour)
        parts = [] if of in taken else _parts(connection, *of)
        taken.add(of)
        read.update({(*of, it.writer): it.booking for it in parts})
        least, kept = in_order(((it.from_log2, it.packed) for it in parts), from_log2)
        names = names_of(connection, {it.worker_id for it in kept})
        tree = Tree([leaf_of(it, names) for it in kept])
        if kept:
            shares[row.seq] = packed(kept)
        nonce = key.blinding(book_id, row.hour // 24).of("settlement", row.seq)
        leaves.append(
            settled_of(
                row,
                counted,
                from_log2=least,
                kept=_by_log2(kept),
                root=tree.root.hex(),
                nonce=nonce.hex(),
            )
        )
    seq, head = head_at(connection, last)
    closing = Closing(
        number=number,
        first_settlement=first,
        last_settlement=last,
        root=tree_of(leaves).root.hex(),
        ledger_seq=seq,
        ledger_hash=head,
        network=network,
        genesis=genesis,
        book=book_id,
        key=key.public.hex(),
        previous=previous,
    )
    digest = closing_hash(msgspec.to_builtins(closing))
    signed = msgspec.structs.replace(closing, hash=digest.hex(), signature=key.sign(digest).hex())
    return ToNote(signed, tuple(leaves), shares, read)


def note(connection: Connection, it: ToNote) -> bool:
    """Write it down, unless somebody did: a closing that does not follow the last one is none any more."""
    closing = it.closing
    if (closing.number, closing.previous) != next_link(connection, share_closings):
        return False
    connection.execute(
        insert(share_closings).values(
            number=closing.number,
            first_settlement=closing.first_settlement,
            last_settlement=closing.last_settlement,
            root=closing.root,
            ledger_seq=closing.ledger_seq,
            ledger_hash=closing.ledger_hash,
            book=closing.book,
            key=closing.key,
            prev_hash=closing.previous,
            hash=closing.hash,
            signature=closing.signature,
        )
    )
    connection.execute(
        insert(share_roots),
        [
            {
                "settlement_seq": leaf.settlement,
                "closing": closing.number,
                "from_log2": leaf.from_log2,
                "kept": canonical(leaf.kept).decode(),
                "root": leaf.root,
                "nonce": leaf.nonce,
            }
            for leaf in it.leaves
        ],
    )
    if it.shares:
        kept = [{"settlement_seq": seq, "packed": data} for seq, data in it.shares.items()]
        connection.execute(insert(share_leaves), kept)
    of = share_parts.c
    for (rate_id, hour, writer), booking in it.read.items():
        mine = (of.rate_id == rate_id, of.hour == hour, of.writer == writer, of.booking <= booking)
        connection.execute(delete(share_parts).where(*mine))
    return True


def forget_old(connection: Connection, now_s: int) -> int:
    """Some of the shares whose time is over, and all of which nothing was ever credited; how many rows."""
    of = share_leaves.c.settlement_seq
    oldest = select(of, settlements.c.hour).join(settlements, settlements.c.seq == of).order_by(of)
    over = [
        row.settlement_seq
        for row in connection.execute(oldest.limit(FORGOTTEN_MAX))
        if row.hour < (now_s - KEPT_S) // 3600
    ]
    if over:
        connection.execute(delete(share_leaves).where(of.in_(over)))
    never = share_parts.c.hour < (now_s - UNSETTLED_KEPT_S) // 3600
    return len(over) + connection.execute(delete(share_parts).where(never)).rowcount


def closings(connection: Connection, first: int = 1, at_most: int | None = None) -> tuple[Closing, ...]:
    """From that number on."""
    bound = binding(connection)
    if bound is None:
        return ()
    rows = connection.execute(
        select(share_closings)
        .where(share_closings.c.number >= first)
        .order_by(share_closings.c.number)
        .limit(at_most)
    )
    return tuple(_closing(row, bound) for row in rows)


# What a closing is made of, for whoever makes it again


def settled_rows(connection: Connection, first: int, last: int) -> list[tuple[Row[Any], dict[int, int]]]:
    """Settlements, each with its shares by the exponent of their difficulty."""
    of = settlements.c
    within = of.seq.between(first, last)
    shares: dict[int, dict[int, int]] = defaultdict(dict)
    for seq, log2, count in connection.execute(
        select(settled_shares).where(settled_shares.c.settlement_seq.between(first, last))
    ):
        shares[seq][log2] = count
    query = (
        select(settlements, tenants.c.name.label("tenant"), rates.c.upstream_id, orders.c.name.label("order"))
        .join(tenants, tenants.c.id == of.tenant_id)
        .join(rates, rates.c.id == of.rate_id)
        .join(orders, orders.c.id == rates.c.order_id, isouter=True)
        .where(within)
        .order_by(of.seq)
    )
    return [(row, shares[row.seq]) for row in connection.execute(query)]


def settled_of(
    row: Row[Any], shares: dict[int, int], *, from_log2: int, kept: dict[str, int], root: str, nonce: str
) -> Settled:
    """A leaf, of a row of `settled_rows`."""
    return Settled(
        settlement=row.seq,
        tenant=row.tenant,
        rate=row.rate_id,
        order=row.order,
        forwarded=row.upstream_id is not None,
        hour_utc=utc(row.hour * 3600),
        part=row.part,
        shares={str(log2): count for log2, count in sorted(shares.items())},
        credit_psat=row.credit_sat * PSAT_PER_SAT + row.credit_psat,
        posted_sat=row.posted_sat,
        from_log2=from_log2,
        kept=kept,
        root=root,
        nonce=nonce,
    )


def settled(connection: Connection, closing: Closing) -> tuple[Settled, ...]:
    """The leaves of a closing, as the books have them now. Raises ValueError where one is not to be read."""
    said = {
        row.settlement_seq: row
        for row in connection.execute(select(share_roots).where(share_roots.c.closing == closing.number))
    }
    rows = settled_rows(connection, closing.first_settlement, closing.last_settlement)
    if said.keys() != {row.seq for row, _ in rows}:
        raise ValueError("it has other settlements than those that it says")
    return tuple(
        settled_of(
            row,
            counted,
            from_log2=said[row.seq].from_log2,
            kept=json.loads(said[row.seq].kept),
            root=said[row.seq].root,
            nonce=said[row.seq].nonce,
        )
        for row, counted in rows
    )


def tree_of(leaves: Iterable[Settled]) -> Tree:
    """Of a closing."""
    return Tree([settled_leaf(msgspec.to_builtins(it)) for it in leaves])


def leaf_of(share: Share, names: dict[int, str]) -> bytes:
    """Of the tree of a settlement."""
    return share_leaf(share.header, share.difficulty_log2, share.minute, names[share.worker_id])


def names_of(connection: Connection, worker_ids: Collection[int]) -> dict[int, str]:
    """acme.c07.r12s04 of each."""
    if not worker_ids:
        return {}
    query = (
        select(workers.c.id, tenants.c.name, containers.c.name.label("container"), workers.c.unit)
        .join(tenants, tenants.c.id == workers.c.tenant_id)
        .join(containers, containers.c.id == workers.c.container_id)
        .where(among(connection, workers.c.id, worker_ids))
    )
    return {row.id: f"{row.name}.{row.container}.{row.unit}" for row in connection.execute(query)}


def head_at(connection: Connection, settlement: int) -> tuple[int, str]:
    """The last transaction that a settlement up to that one is booked in."""
    of, booked = settlements.c, ledger_transactions.c
    row = connection.execute(
        select(booked.seq, booked.hash)
        .join(settlements, of.transaction_seq == booked.seq)
        .where(of.seq <= settlement)
        .order_by(of.seq.desc())
        .limit(1)
    ).one_or_none()
    return (row.seq, row.hash) if row else (0, GENESIS_HASH)


def _parts(connection: Connection, rate_id: int, hour: int) -> list[Row[Any]]:
    of = share_parts.c
    query = select(share_parts).where(of.rate_id == rate_id, of.hour == hour)
    return list(connection.execute(query.order_by(of.writer, of.booking)))


def _by_log2(shares: Iterable[Share]) -> dict[str, int]:
    counts = Counter(it.difficulty_log2 for it in shares)
    return {str(log2): count for log2, count in sorted(counts.items())}


def _closing(row: Row[Any], bound: tuple[str, str, str]) -> Closing:
    return Closing(
        number=row.number,
        first_settlement=row.first_settlement,
        last_settlement=row.last_settlement,
        root=row.root,
        ledger_seq=row.ledger_seq,
        ledger_hash=row.ledger_hash,
        network=bound[0],
        genesis=bound[1],
        book=row.book,
        key=row.key,
        previous=row.prev_hash,
        hash=row.hash,
        signature=row.signature,
    )
