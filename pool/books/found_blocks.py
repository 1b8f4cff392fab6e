"""Blocks that are on disk and not in the books: what a kill between the two left behind.

`pool.chain.block_files` has every found block as <height>-<hash>.<state>. At the start each that a node
took is compared with the books, so that income is never missing. Whose a block is its coinbase says, and
who found it the note in the file: a machine is made for that where there is none yet, since the journal
that names it may be on its way, or lost, and a block is divided among those who mined with its finder.
Must not know: nodes.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
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
from payouts.schemas.money import blocks, tenant_addresses, tenants
from payouts.solo import SoloPayout, owner_of, record_solo
from pool.books.journal.machine_rows import rows_of
from pool.chain.addresses import BadAddress, script_for
from pool.chain.block_files import block_and_note
from pool.data_dir import paths_in
from pool.journal.records import Machine
from stratum.unreadable import NOT_READ

log = structlog.get_logger()

TAKEN: Final = (".accepted", ".inconclusive")
HEADER_TIME_AT: Final = 68  # behind version, parent and merkle root
HEADER_ENDS: Final = Struct("<II")  # time, bits
FILES_MAX: Final = 50  # booked in one transaction, so that the journal commits in between
HASHES_AT_ONCE: Final = 500  # in one question


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
    except NOT_READ:
        return None


class Output(msgspec.Struct, frozen=True):
    """Of a coinbase."""

    script: bytes
    value_sat: int


def taken_files(directory: Path) -> Iterator[tuple[str, Path]]:
    """Hash and file of each block that a node took. Raises OSError."""
    for path in paths_in(directory):
        if path.suffix in TAKEN and "-" in path.stem:
            yield path.stem.partition("-")[2], path


def unbooked(connection: Connection, hashes: Collection[str]) -> frozenset[str]:
    """Those of these blocks that the books do not have."""
    asked, known = sorted(hashes), set[str]()
    for at in range(0, len(asked), HASHES_AT_ONCE):
        some = blocks.c.hash.in_(asked[at : at + HASHES_AT_ONCE])
        known.update(connection.scalars(select(blocks.c.hash).where(some)))
    return frozenset(asked) - known


def unknown_files(connection: Connection, directory: Path, earlier: frozenset[str]) -> list[Path]:
    """The files of those blocks that a node took and that the books do not have."""
    files = {hash_hex: path for hash_hex, path in taken_files(directory) if hash_hex in earlier}
    return sorted(files[it] for it in unbooked(connection, files))


def book_found_blocks(
    connection: Connection,
    files: Sequence[Path],
    payout_script: bytes,
    network: str,
    now_s: int,
    numbered: Callable[[Machine], Machine],
) -> None:
    """Book blocks on disk that the books do not have. `numbered` gives a machine the numbers that it and its
    container have here, or get. A file that is no whole block keeps no other out of the books."""
    for path in files:
        height, _, hash_hex = path.stem.partition("-")
        if not height.isdecimal():
            continue
        try:
            block, packed = block_and_note(path.read_bytes())
            outputs = outputs_of(block)
        except Exception as error:  # whatever its decoder stumbles over: a copy that is not whole
            log.error("block_file_not_read", file=str(path), reason=str(error)[:200])
            continue
        note = unpacked_note(packed)
        finder = None if note is None else note.finder
        solo = _solo_payout(connection, outputs, payout_script, network)
        paid_sat = sum(it.value_sat for it in outputs if it.script == payout_script)
        if paid_sat + (0 if solo is None else solo.amount_sat) != sum(it.value_sat for it in outputs):
            # No work of ours: an edge that may be captured would have for itself what its machines find, and
            # what others have found be theirs, where luck is looked at.
            finder = None
        found = Block(
            hash=hash_hex,
            height=int(height),
            income_sat=paid_sat,
            worker_id=None if finder is None else _row_of(connection, finder, numbered, now_s),
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


def _row_of(
    connection: Connection, machine: Machine, numbered: Callable[[Machine], Machine], now_s: int
) -> int | None:
    """By its name, whatever number it has in the note: that may be another one's by now. None where the books
    do not have its tenant: they are of before, or others."""
    if connection.scalar(select(tenants.c.id).where(tenants.c.name == machine.tenant)) is None:
        return None
    it = numbered(machine)
    return rows_of(connection, [it], now_s)[it.number]


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
