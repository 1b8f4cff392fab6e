"""What the books say that is worth telling: blocks, addresses, silences, what waits for a person; and the
names and nameplates of what is looked at.

News are what is behind cursors. A cursor is put back where the books are behind it: they were restored, and
what is changed from then on must be told.

Must not know: what was told already.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, select

from payouts.batches.proposals import is_open
from payouts.batches.schema import payout_batches, payout_items
from payouts.schemas.money import (
    blocks,
    containers,
    sites,
    tenant_addresses,
    tenants,
    workers,
)
from payouts.schemas.orders import orders, upstreams
from payouts.schemas.proposals import confirmations, proposals
from pool.books.changes.changes import Unreadable, states
from pool.books.changes.schema import changes
from pool.messages.look import WaitingLook
from pool.messages.message import WORDS_CHARS_MAX, plain
from pool.messages.silences import SILENCE, newest_silences, silence_of
from pool.messages.teller import Event
from pool.power.curtailment.forgetting import FORGET
from pool.reports.figures import btc, grouped
from pool.requests.policy import GLASS_BROKEN, POLICY_SET
from pool.requests.rows import Request, Stage, open_requests, time_of_book

# In one look: what a test chain finds in a minute is not told block by block, and the rest comes in the next.
NEWS_MAX: Final = 1_000
THS: Final = 10**12
TOLD: Final = (SILENCE, FORGET, GLASS_BROKEN, POLICY_SET)


class Cursors(msgspec.Struct):
    """Up to where the books were told. Blocks: by time, and those of that very second."""

    address: int
    change: int
    block_s: int
    block_hashes: list[str]


class Container(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    name: str  # tenant.container
    tenant: str
    site: str | None
    nameplate_hps: float | None


class Booked(msgspec.Struct, frozen=True, kw_only=True):
    """One look into the books."""

    containers: tuple[Container, ...]
    upstreams: dict[int, str]
    orders: dict[int, str]
    waiting: tuple[WaitingLook, ...]
    silenced: frozenset[str]
    events: tuple[Event, ...]
    cursors: Cursors


def cursors_now(connection: Connection) -> Cursors:
    """Nothing of before is news."""
    block_s = connection.scalar(select(func.max(blocks.c.found_at_s))) or 0
    return Cursors(
        address=connection.scalar(select(func.max(tenant_addresses.c.id))) or 0,
        change=connection.scalar(select(func.max(changes.c.id))) or 0,
        block_s=block_s,
        block_hashes=list(connection.scalars(select(blocks.c.hash).where(blocks.c.found_at_s == block_s))),
    )


def last_shares(connection: Connection) -> dict[int, int]:
    """When each machine had a share, give or take ten minutes."""
    query = select(workers.c.id, workers.c.last_seen_at_s).where(workers.c.removed_at_s.is_(None))
    return {row.id: row.last_seen_at_s for row in connection.execute(query)}


def booked(connection: Connection, cursors: Cursors, now_s: int) -> Booked:
    """What there is now, and what is behind the cursors."""
    newest = cursors_now(connection)
    address_from, change_from = min(cursors.address, newest.address), min(cursors.change, newest.change)
    found, block_s, block_hashes = _blocks(connection, cursors, newest.block_s)
    addresses, address = _addresses(connection, address_from)
    noted, change = _noted(connection, change_from, newest.change)
    return Booked(
        containers=_containers(connection),
        upstreams={row.id: row.name for row in connection.execute(select(upstreams.c.id, upstreams.c.name))},
        orders={row.id: row.name for row in connection.execute(select(orders.c.id, orders.c.name))},
        waiting=waiting(connection, now_s),
        silenced=frozenset(
            it.subject for it in newest_silences(connection, now_s) if it.made_at_s <= now_s < it.until_at_s
        ),
        events=(*found, *addresses, *noted),
        cursors=Cursors(address=address, change=change, block_s=block_s, block_hashes=block_hashes),
    )


def _containers(connection: Connection) -> tuple[Container, ...]:
    query = (
        select(containers, tenants.c.name.label("tenant"), sites.c.name.label("site"))
        .join(tenants, tenants.c.id == containers.c.tenant_id)
        .outerjoin(sites, sites.c.id == containers.c.site_id)
        .where(containers.c.removed_at_s.is_(None), tenants.c.status == "active")
    )
    return tuple(
        Container(
            id=row.id,
            name=f"{row.tenant}.{row.name}" if row.name else row.tenant,
            tenant=row.tenant,
            site=row.site,
            nameplate_hps=row.nameplate_ths * THS if row.nameplate_ths else None,
        )
        for row in connection.execute(query)
    )


def _blocks(connection: Connection, cursors: Cursors, newest_s: int) -> tuple[list[Event], int, list[str]]:
    from_s = min(cursors.block_s, newest_s)
    query = (
        select(blocks, tenants.c.name.label("tenant"), containers.c.name.label("container"), workers.c.unit)
        .outerjoin(workers, workers.c.id == blocks.c.worker_id)
        .outerjoin(containers, containers.c.id == workers.c.container_id)
        .outerjoin(tenants, tenants.c.id == workers.c.tenant_id)
        .where(blocks.c.found_at_s >= from_s)
        .order_by(blocks.c.found_at_s, blocks.c.hash)
        .limit(NEWS_MAX)
    )
    events, last_s, hashes = [], from_s, list(cursors.block_hashes)
    for row in connection.execute(query):
        if row.hash in hashes:
            continue
        if row.found_at_s > last_s:
            last_s, hashes = row.found_at_s, []
        hashes.append(row.hash)
        finder = ".".join(part for part in (row.tenant, row.container, row.unit) if part)
        events.append(
            Event(
                kind="block-found",
                subject=f"block/{row.height}",
                name=grouped(row.height),
                words=f"height {grouped(row.height)}, {btc(row.income_sat)} BTC to the pool,"
                f" by {plain(finder, WORDS_CHARS_MAX) or 'nobody who is known'}: {row.hash}",
            )
        )
    return events, last_s, hashes


def _addresses(connection: Connection, from_id: int) -> tuple[list[Event], int]:
    query = (
        select(tenant_addresses, tenants.c.name)
        .join(tenants, tenants.c.id == tenant_addresses.c.tenant_id)
        .where(tenant_addresses.c.id > from_id)
        .order_by(tenant_addresses.c.id)
        .limit(NEWS_MAX)
    )
    events, last = [], from_id
    for row in connection.execute(query):
        last = row.id
        wait_s = row.effective_at_s - row.changed_at_s
        events.append(
            Event(
                kind="address-changed",
                subject=f"tenant/{plain(row.name)}",
                name=plain(row.name),
                words=f"{plain(row.name)}: {plain(row.address, WORDS_CHARS_MAX)}, by {plain(row.changed_by)};"
                + (
                    f" it is paid to in {wait_s // 3600} h at the earliest"
                    if wait_s
                    else " it is the first one"
                )
                + ". Who did not want that has until then",
            )
        )
    return events, last


def _noted(connection: Connection, from_id: int, newest: int) -> tuple[list[Event], int]:
    """Changes that are told of by their record: silences, machines that are gone, what nobody agreed to."""
    query = (
        select(changes)
        .where(changes.c.command.in_(TOLD), changes.c.id > from_id)
        .order_by(changes.c.id)
        .limit(NEWS_MAX)
    )
    events, last = [], from_id
    rows = connection.execute(query).mappings().all()
    for row in rows:
        last = row["id"]
        event = _TELLS.get(row["command"], _decided_alone)(row)
        if event is not None:
            events.append(event)
    return events, last if len(rows) == NEWS_MAX else newest


def waiting(connection: Connection, now_s: int) -> tuple[WaitingLook, ...]:
    """All that waits for a person."""
    return (*_payouts(connection, now_s), *_proposals(connection, now_s), *_requests(connection, now_s))


def _silenced(row: Any) -> Event | None:
    silence = silence_of(row)
    if silence is None:
        return None
    # To the nearest: it may be noted a second after it was said from when on it lasts.
    minutes = (max(0, silence.until_at_s - silence.made_at_s) + 30) // 60
    how = f"for {minutes} min" if minutes else "no longer"
    return Event(
        kind="silenced",
        subject=silence.subject,
        name=plain(silence.subject, WORDS_CHARS_MAX),
        words=f"{plain(silence.subject, WORDS_CHARS_MAX)} {how}, by {plain(silence.by)}:"
        f" {plain(silence.reason, WORDS_CHARS_MAX)}",
    )


def _forgotten(row: Any) -> Event:
    """Why is in the steps of its event, and in the change's own."""
    machine = plain(row["subject"], WORDS_CHARS_MAX)
    words = f"{machine}, by {plain(row['changed_by'])}: no event asks it any more, and it is not told to mine"
    return Event(kind="machine-forgotten", subject=f"machine/{machine}", name=machine, words=words)


def _decided_alone(row: Any) -> Event:
    """Also where somebody tampered with it: then it is not said what it says."""
    try:
        became = states(row)[1] or {}
    except Unreadable:
        became = {}
    said = {name: plain(str(value), WORDS_CHARS_MAX) for name, value in became.items()}
    by, subject = plain(row["changed_by"]), plain(row["subject"], WORDS_CHARS_MAX)
    if row["command"] == POLICY_SET:
        what = ", ".join(f"{name} = {value}" for name, value in said.items())
        words = f"{what or 'it cannot be read'}, by {by}. It is in the settings file"
        return Event(kind="approval-changed", subject="approval", name="", words=words)
    words = f"{said.get('command', 'a change')} of {subject}, by {by} alone: {said.get('reason', '')}"
    return Event(kind="glass-broken", subject=f"change/{row['id']}", name=subject, words=words)


_TELLS: Final[dict[str, Callable[[Any], Event | None]]] = {SILENCE: _silenced, FORGET: _forgotten}


def _payouts(connection: Connection, now_s: int) -> list[WaitingLook]:
    total = func.coalesce(func.sum(payout_items.c.amount_sat), 0)
    query = (
        select(payout_batches, func.count(payout_items.c.position).label("items"), total.label("total_sat"))
        .outerjoin(payout_items, payout_items.c.batch_id == payout_batches.c.id)
        .where(payout_batches.c.state == "draft")
        .group_by(payout_batches.c.id)
    )
    return [
        WaitingLook(
            f"payout/{row.id}",
            now_s - row.created_at_s,
            f"payout {row.id}: {btc(int(row.total_sat))} BTC to {grouped(row.items)} tenants,"
            f" made by {plain(row.created_by)}, waits for its approval",
        )
        for row in connection.execute(query)
    ]


def _proposals(connection: Connection, now_s: int) -> list[WaitingLook]:
    query = (
        select(proposals)
        .outerjoin(confirmations, confirmations.c.proposal_id == proposals.c.id)
        .where(is_open(time_of_book(connection, now_s)))
        .order_by(proposals.c.id.desc())
        .limit(NEWS_MAX)
    )
    return [
        WaitingLook(
            f"proposal/{row.id}",
            now_s - row.proposed_at_s,
            f"proposal {row.id} ({plain(row.kind)}), by {plain(row.proposed_by)}, waits for a second person",
        )
        for row in connection.execute(query)
    ]


def _requests(connection: Connection, now_s: int) -> list[WaitingLook]:
    now_s = time_of_book(connection, now_s)
    return [
        WaitingLook(f"request/{it.id}", now_s - it.asked.at_s, _asked(it, now_s))
        for it in open_requests(connection, now_s)[-NEWS_MAX:]
    ]


def _asked(request: Request, now_s: int) -> str:
    what = f"request {request.id}: {plain(request.command)} of {plain(request.subject, WORDS_CHARS_MAX)}"
    by = f"asked for by {plain(request.asked.said_by)}"
    if request.stage(now_s) is Stage.WAITING:
        return f"{what}, {by}, waits for a second person"
    minutes = max(0, request.earliest_at_s - now_s) // 60
    return f"{what}, {by}, is made in {minutes} min: who does not want that withdraws it"
