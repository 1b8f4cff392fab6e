"""What a record says: how a file of the journal opens, and a batch of counted shares.

A batch is what one commit makes durable. It defines what its numbers mean before their first use in a file:
a worker's number by the names of its tenant, container and unit, a rate number by the terms of the price and
what each tenant is paid by, so that other books than the pool's own can take it. Tallies, and what upstreams
said, are packed as the engine and `upstream_verdicts` pack them.

What is on disk means the same to every later version: fields are only added, at the end, with a default.
Must not know: files, databases, what a price comes to.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from stratum.tallies import CREDIT
from stratum.unreadable import NOT_READ

VERSION: Final = 2
BY_ROWS: Final = (
    1  # files of before: a rate number is a row of the book's, and was there before its first share
)


class Opening(msgspec.Struct, frozen=True, array_like=True, tag=1, kw_only=True):
    """The first record of a file."""

    version: int
    writer: str
    book: str  # whose shares these are: no other book takes them
    moment_s: int
    accepted: int  # as a batch has it


class Machine(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Whom a worker's number means in the records from here to the end of the file."""

    number: int
    tenant_id: int
    tenant: str
    container_id: int
    container: str
    unit: str
    agent: str | None
    new: bool = False  # its first accepted share is in this batch: it mines, whatever it was before
    new_container: bool = False


class Noted(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A share that is on its way to an upstream."""

    key: bytes
    worker: int
    epoch: int
    difficulty_log2: int
    counted: bool
    target: bytes


class Paid(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What a tenant is paid by at a rate, by its terms when the rate was opened."""

    tenant: str
    scheme: str
    fee_bps: int
    sat_per_ph_day: int | None  # an order's price, where that is what the tenant is paid
    upstream_risk: str


class Rate(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What a rate number means in the records from here to the end of the file."""

    number: int
    opened_at_s: int  # book time
    height: int
    nbits: int
    subsidy_sat: int
    basis: bytes  # the blocks whose fees FPPS goes by; empty where nobody had asked for them yet
    upstream: str | None  # whose work it is, by name; None: the pool's own
    order: str | None
    solo: bool  # its blocks pay the tenant that mines them
    paid: tuple[Paid, ...]


class Batch(msgspec.Struct, frozen=True, array_like=True, tag=2, kw_only=True):
    """What one commit has. A key may be resolved and noted: the one before is resolved, the other is new."""

    moment_s: int  # book time: never before that of the record before it
    accepted: int  # accepted shares of this writer, with those of this batch, since it began
    tallies: bytes = b""
    upstream: bytes = b""
    machines: tuple[Machine, ...] = ()
    resolved: tuple[bytes, ...] = ()
    noted: tuple[Noted, ...] = ()
    credits: tuple[tuple[bytes, bytes], ...] = ()  # as a version of before has them: hashes alone
    rates: tuple[Rate, ...] = ()
    answered: bytes = b""  # CREDIT records: of forwarded shares that are in a tally from here on
    credited: tuple[tuple[bytes, bytes], ...] = ()  # the same of what is credited, by previous block
    kept: bytes = b""  # KEPT records: all good shares whose hash is of difficulty 2**kept_log2 or more
    kept_log2: int = 0


def hashes_in(batch: Batch) -> Iterator[tuple[bytes, bytes]]:
    """Previous blocks, each with hashes that were credited on it."""
    yield from batch.credits
    for prevhash, credited in batch.credited:
        yield prevhash, np.frombuffer(credited, dtype=CREDIT)["hash"].tobytes()


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final[msgspec.msgpack.Decoder[Opening | Batch]] = msgspec.msgpack.Decoder(Opening | Batch)


def packed(record: Opening | Batch) -> bytes:
    return _ENCODER.encode(record)


def unpacked(body: bytes) -> Opening | Batch:
    """Raises ValueError for a body that this version cannot read."""
    try:
        record = _DECODER.decode(body)
    except NOT_READ as error:
        raise ValueError(str(error)) from None
    if isinstance(record, Opening) and not BY_ROWS <= record.version <= VERSION:
        raise ValueError(f"it is of version {record.version}, this Angara reads versions up to {VERSION}")
    return record
