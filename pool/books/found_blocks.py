"""Blocks that are on disk and not in the books: what a kill between the two left behind.

`pool.chain.blocks` keeps every found block as <height>-<hash>.<state>. At the start each that a node took is
compared with the books, so that income is never missing. Whose a block is its coinbase says, and who found it
the note in the file.
Must not know: nodes.
"""

from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import Final

import msgspec
import structlog
from bitcoin.core import CBlock
from sqlalchemy import Connection, select

from payouts import income
from payouts.divisions import Header, record_fund
from payouts.income import Block
from payouts.rates import Scheme
from payouts.schemas.money import blocks, containers, tenant_addresses, tenants, workers
from payouts.solo import SoloPayout, owner_of, record_solo
from pool.chain.addresses import BadAddress, script_for
from pool.chain.blocks import block_and_note, note_of
from pool.journal.records import Machine

log = structlog.get_logger()

TAKEN: Final = (".accepted", ".inconclusive")
HEADER_TIME_AT: Final = 68  # behind version, parent and merkle root
HEADER_ENDS: Final = Struct("<II")  # time, bits
FILES_MAX: Final = 50  # booked in one transaction, so that the journal commits in between


class BlockNote(msgspec.Struct, frozen=True):
    """What a block's file says beside the block: which process submits it, who found it, and how the shares
    of its job are paid. Fields are only added, with a default: files of before are read by every version."""

    process: int  # from 1
    finder: Machine | None
    scheme: Scheme | None = None  # None: nobody knew, as versions of before


def packed_note(note: BlockNote) -> bytes:
    return msgspec.json.encode(note)


def unpacked_note(packed: bytes) -> BlockNote | None:
    """None where there is none that can be read."""
    try:
        return msgspec.json.decode(packed, type=BlockNote)
    except msgspec.DecodeError:
        return None


class Output(msgspec.Struct, frozen=True):
    """Of a coinbase."""

    script: bytes
    value_sat: int


def unknown_files(connection: Connection, directory: Path, earlier: frozenset[str]) -> list[Path]:
    """The files of those blocks that a node took and that the books do not have."""
    unbooked = _unbooked(connection, directory)
    return sorted(path for path in unbooked if _hash_in(path) in earlier)


def left_behind(connection: Connection, directory: Path) -> dict[str, bool]:
    """Blocks whose files are here and that nobody has booked; of each, whether the books know who found it.
    Raises OSError."""
    found = {}
    for path in _unbooked(connection, directory):
        note = unpacked_note(note_of(path))
        finder = None if note is None else note.finder
        found[_hash_in(path)] = finder is None or _row_of(connection, finder) is not None
    return found


def _unbooked(connection: Connection, directory: Path) -> list[Path]:
    known = frozenset(connection.scalars(select(blocks.c.hash)))
    return [it for it in directory.glob("*-*") if it.suffix in TAKEN and _hash_in(it) not in known]


def _hash_in(path: Path) -> str:
    return path.stem.partition("-")[2]


def book_found_blocks(
    connection: Connection, files: Sequence[Path], payout_script: bytes, network: str, now_s: int
) -> None:
    """Book blocks on disk that the books do not have."""
    for path in files:
        height, _, hash_hex = path.stem.partition("-")
        if not height.isdecimal():
            continue
        block, packed = block_and_note(path.read_bytes())
        note = unpacked_note(packed)
        finder = None if note is None else note.finder
        outputs = outputs_of(block)
        solo = _solo_payout(connection, outputs, payout_script, network)
        paid_sat = sum(it.value_sat for it in outputs if it.script == payout_script)
        found = Block(
            hash=hash_hex,
            height=int(height),
            income_sat=paid_sat,
            worker_id=None if finder is None else _row_of(connection, finder),
            found_at_s=now_s,
        )
        if not income.record_block(connection, found, now_s):
            continue  # somebody else has booked it since
        if solo is not None:
            record_solo(connection, hash_hex, solo)
        elif found.worker_id is not None:
            said = None if note is None else note.scheme
            record_fund(connection, hash_hex, found.worker_id, header_of(block), said)
        tenant_id = None if solo is None else solo.tenant_id
        log.warning(
            "block_booked_late", height=int(height), hash=hash_hex, income_sat=paid_sat, solo_tenant=tenant_id
        )


def _row_of(connection: Connection, machine: Machine) -> int | None:
    """None where the books do not have it: its number may be another one's by now, so no row is made."""
    found: int | None = connection.scalar(
        select(workers.c.id)
        .join(containers, containers.c.id == workers.c.container_id)
        .join(tenants, tenants.c.id == workers.c.tenant_id)
        .where(
            tenants.c.name == machine.tenant,
            containers.c.name == machine.container,
            workers.c.unit == machine.unit,
        )
    )
    return found


def header_of(block: bytes) -> Header:
    """Its time and bits, where a header has them."""
    at_s, nbits = HEADER_ENDS.unpack_from(block, HEADER_TIME_AT)
    return Header(nbits, at_s)


def outputs_of(block: bytes) -> tuple[Output, ...]:
    """Of the block's coinbase."""
    coinbase = CBlock.deserialize(block).vtx[0]
    return tuple(Output(bytes(out.scriptPubKey), int(out.nValue)) for out in coinbase.vout)


def _solo_payout(
    connection: Connection, outputs: Sequence[Output], payout_script: bytes, network: str
) -> SoloPayout | None:
    """The tenant that a coinbase pays with its first output; None: it pays the pool, or nobody we know."""
    first = outputs[0]
    if first.script == payout_script:
        return None
    scripts = {}
    for address in connection.scalars(select(tenant_addresses.c.address).distinct()):
        try:
            scripts[address] = script_for(address, network)
        except BadAddress:
            continue
    owner = owner_of(connection, scripts, first.script)
    if owner is None:
        return None
    tenant_id, address = owner
    return SoloPayout(
        tenant_id=tenant_id,
        address=address,
        script=first.script,
        amount_sat=first.value_sat,
        fee_sat=sum(it.value_sat for it in outputs[1:] if it.script == payout_script),
    )
