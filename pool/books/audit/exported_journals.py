"""What an edge says of its own journal, hour by hour, in a file: written there, and read at the hub.

What is read is somebody else's word: it is bounded, and held against the books and against what came. An edge
that says what it has sent proves nothing new, and cannot take back what it has sent.

Must not know: books.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from pool.books.audit.journal_files import Damage, HourHere, JournalHere, read_journal
from pool.journal.frames import DIGEST_BYTES, Place
from pool.journal.log import WRITER_BYTES, is_writer

# Of the hours in 1 GiB that an edge keeps: four years of one that hardly has any work.
EXPORT_BYTES_MAX: Final = 64 << 20
BIGGEST: Final = 2**63 - 1

Number = Annotated[int, msgspec.Meta(ge=0, le=BIGGEST)]
Digest = Annotated[str, msgspec.Meta(pattern=rf"^[0-9a-f]{{{2 * DIGEST_BYTES}}}\Z")]
Writer = Annotated[str, msgspec.Meta(pattern=rf"^[0-9a-f]{{{2 * WRITER_BYTES}}}\Z")]


class _Shares(msgspec.Struct, frozen=True, kw_only=True):
    log2: Annotated[int, msgspec.Meta(ge=-128, le=127)]
    verdict: Annotated[int, msgspec.Meta(ge=0, le=255)]
    shares: Number


class _Hour(msgspec.Struct, frozen=True, kw_only=True):
    hour: Annotated[int, msgspec.Meta(ge=-BIGGEST, le=BIGGEST)]
    first: Number
    last: Number
    digest: Digest
    records: Number
    shares: tuple[_Shares, ...]


class _Journal(msgspec.Struct, frozen=True, kw_only=True):
    writer: Writer
    book: Annotated[str, msgspec.Meta(max_length=100)] | None
    first: Number
    last: Number
    digest: Digest
    accepted: Number
    hours: tuple[_Hour, ...]
    wrong: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None  # of the record behind the last


class _Export(msgspec.Struct, frozen=True, kw_only=True):
    journals: tuple[_Journal, ...]


_DECODER: Final = msgspec.json.Decoder(_Export)


def journals_in(directory: Path) -> list[JournalHere]:
    """A journal's directory, one with journals in it, or a data directory. Raises OSError, JournalDamaged."""
    home = directory.absolute()
    if is_writer(home.name):
        return [read_journal(home)]
    if (home / "journal").is_dir():
        home /= "journal"
    return [read_journal(it) for it in sorted(home.glob("*")) if it.is_dir() and is_writer(it.name)]


def exported(journals: Iterable[JournalHere]) -> dict[str, Any]:
    """For JSON; `from_s` is for who reads it."""
    return {"journals": [_said(it) for it in journals]}


def read_export(path: Path) -> list[JournalHere]:
    """Raises OSError, and what NOT_READ are for what is no export."""
    with path.open("rb") as file:
        data = file.read(EXPORT_BYTES_MAX + 1)
    if len(data) > EXPORT_BYTES_MAX:
        raise msgspec.DecodeError(f"it has more than {EXPORT_BYTES_MAX >> 20} MiB")
    return [_here(it) for it in _DECODER.decode(data).journals]


def _said(it: JournalHere) -> dict[str, Any]:
    return {
        "writer": it.writer,
        "book": it.book,
        "first": it.first,
        "last": it.last.number,
        "digest": it.last.digest.hex(),
        "accepted": it.accepted,
        "wrong": None if it.damage is None else it.damage.words,
        "rest": it.rest,
        "hours": [_said_of_hour(hour) for hours in it.hours for hour in hours],
    }


def _said_of_hour(it: HourHere) -> dict[str, Any]:
    return {
        "hour": it.hour,
        "from_s": it.hour * 3600,
        "first": it.first,
        "last": it.last.number,
        "digest": it.last.digest.hex(),
        "records": it.records,
        "accepted": it.accepted,
        "shares": [
            {"log2": log2, "verdict": verdict, "shares": shares}
            for (log2, verdict), shares in sorted(it.shares.items())
        ],
    }


def _here(it: _Journal) -> JournalHere:
    hours = tuple(
        HourHere(
            hour=hour.hour,
            first=hour.first,
            last=Place(hour.last, bytes.fromhex(hour.digest)),
            records=hour.records,
            shares={(share.log2, share.verdict): share.shares for share in hour.shares},
        )
        for hour in it.hours
    )
    return JournalHere(
        writer=it.writer,
        book=it.book,
        first=it.first,
        last=Place(it.last, bytes.fromhex(it.digest)),
        accepted=it.accepted,
        hours=(hours,),
        damage=None if it.wrong is None else Damage(it.last + 1, it.wrong),
    )
