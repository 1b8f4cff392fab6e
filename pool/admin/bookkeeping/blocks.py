"""The question which blocks were found, and what became of them. Must not know: sockets, terminals."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, select, tuple_

from payouts.income import newest_events
from payouts.schemas.divisions import block_funds, division_parts, divisions
from payouts.schemas.money import blocks, containers, solo_blocks, tenants, workers
from pool.admin.command import Commands, Question
from pool.admin.desk import Desk
from pool.admin.pages import Page, Paged, begin_of, cursor_behind

BLOCKS_SHOWN: Final = 200  # where nobody says how many: of four months at four sites built out


class BlockList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class BlockRow(msgspec.Struct, frozen=True, kw_only=True):
    """One that was found and submitted. A solo tenant's pays the tenant, and the pool its fee at most. Where
    the finder's scheme divides blocks, it is divided over the work of who has it, when it has matured."""

    height: int
    hash: str
    found_at_s: int
    status: str
    worker: str | None  # its full name; None where its machine is not known any more
    income_sat: int
    solo_tenant: str | None
    solo_sat: int | None
    divided_by: str | None
    divided_sat: int | None  # to tenants; None until then


def block_list(desk: Desk, it: BlockList) -> Page[BlockRow]:
    """The newest, and of these the newest last; a page behind has the next older ones."""
    limit = it.limit or BLOCKS_SHOWN
    before = None if it.cursor is None else begin_of(it, (int, str))

    def read(connection: Connection) -> list[BlockRow]:
        query = _BLOCKS.order_by(blocks.c.found_at_s.desc(), blocks.c.hash.desc()).limit(limit)
        if before is not None:
            query = query.where(tuple_(blocks.c.found_at_s, blocks.c.hash) < tuple_(*before))
        return [_row(found) for found in reversed(connection.execute(query).all())]

    rows = desk.read(read)
    full = len(rows) == limit
    return Page(rows, cursor_behind(it, (rows[0].found_at_s, rows[0].hash)) if full else None)


_NEWEST = newest_events()
_FINDERS = tenants.alias()
_DIVIDED = (
    select(divisions.c.block_hash, func.coalesce(func.sum(division_parts.c.posted_sat), 0).label("sat"))
    .outerjoin(division_parts, division_parts.c.division_seq == divisions.c.seq)
    .group_by(divisions.c.block_hash)
    .subquery()
)
_BLOCKS = (
    select(
        blocks,
        _NEWEST.c.status,
        _FINDERS.c.name.label("finder"),
        containers.c.name.label("container"),
        workers.c.unit,
        tenants.c.name.label("solo_tenant"),
        solo_blocks.c.amount_sat.label("solo_sat"),
        block_funds.c.scheme.label("divided_by"),
        _DIVIDED.c.sat.label("divided_sat"),
    )
    .join(_NEWEST, _NEWEST.c.block_hash == blocks.c.hash)
    .outerjoin(workers, workers.c.id == blocks.c.worker_id)
    .outerjoin(containers, containers.c.id == workers.c.container_id)
    .outerjoin(_FINDERS, _FINDERS.c.id == workers.c.tenant_id)
    .outerjoin(solo_blocks, solo_blocks.c.block_hash == blocks.c.hash)
    .outerjoin(tenants, tenants.c.id == solo_blocks.c.tenant_id)
    .outerjoin(block_funds, block_funds.c.block_hash == blocks.c.hash)
    .outerjoin(_DIVIDED, _DIVIDED.c.block_hash == blocks.c.hash)
)


def _row(found: Any) -> BlockRow:
    worker = None
    if found.finder is not None:
        worker = ".".join(part for part in (found.finder, found.container, found.unit) if part)
    return BlockRow(
        height=found.height,
        hash=found.hash,
        found_at_s=found.found_at_s,
        status=found.status,
        worker=worker,
        income_sat=found.income_sat,
        solo_tenant=found.solo_tenant,
        solo_sat=found.solo_sat,
        divided_by=found.divided_by,
        divided_sat=None if found.divided_sat is None else int(found.divided_sat),
    )


COMMANDS: Final[Commands] = {
    "block.list": Question(BlockList, block_list),
}
