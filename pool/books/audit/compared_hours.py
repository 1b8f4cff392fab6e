"""What is here of a journal against the hours that the books noted of it: where they differ, in words.

The hash of a record is one of all before it: where an hour ends with the same one on both sides, every
record up to it is the same. The counts of an hour that is here as a whole are the same then too, or the books
have added it up wrongly. Of an hour whose beginning is removed, or whose end is not there yet, one side has
no more than the other.

Must not know: files, databases.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from pool.books.audit.booked_journal import BookedJournal
from pool.books.audit.journal_files import HourHere, JournalHere, Passed
from pool.books.journal.hours import Hour
from stratum.tallies import Verdict

UNTOLD, BOOKED, WAITING = range(3)  # stretches: before hours were noted; in the books; for them
DIGITS_SHOWN: Final = 12  # of a hash, in words
BOOKS: Final = "the books"


class Side(StrEnum):
    """What is compared with the books: as a word, and as words that a sentence goes on with."""

    INBOX = "inbox"
    JOURNAL = "journal"
    EDGE = "edge"

    @property
    def words(self) -> str:
        return "what the edge says" if self is Side.EDGE else f"the {self}"


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """At which record, of which hour where that can be said, and what each side has."""

    number: int
    words: str
    hour: int | None = None


def in_stretches(said: JournalHere, booked: BookedJournal) -> JournalHere:
    """What somebody says of whole hours, as it would be read here. An hour that is partly booked is of the
    second stretch."""
    stretches: tuple[list[HourHere], ...] = ([], [], [])
    for it in (it for hours in said.hours for it in hours):
        at = UNTOLD if it.last.number <= booked.untold else BOOKED
        stretches[WAITING if it.first > booked.taken else at].append(it)
    passed = {it.last.number: Passed(it.last.digest) for hours in said.hours for it in hours}
    if said.first:
        passed[said.last.number] = Passed(said.last.digest, said.accepted)
    hours = tuple(tuple(sorted(them, key=lambda it: it.last.number)) for them in stretches)
    return msgspec.structs.replace(said, hours=hours, passed=passed)


def differences(
    booked: BookedJournal, here: JournalHere, side: Side, came: JournalHere | None = None
) -> list[Difference]:
    """All that there are, of one record the gravest first. `came` is what is here of what an edge says."""
    if here.first and not booked.known and side is not Side.JOURNAL:
        return [Difference(number=here.first, words=f"{BOOKS} know no such journal")]
    if here.book not in (None, booked.book):
        return [Difference(number=here.first, words="it has the shares of another book than this one")]
    had = max(booked.taken, 0 if came is None else came.last.number)
    found = [*_damage(booked, here, side), *_missing(booked, here, side, had)]
    found += _hashes(booked, here, side)
    found += _counts(booked, here, side)
    found += _accepted(booked, here, side)
    return found if came is None else [*found, *_said_and_came(here, came)]


def is_whole(hour: HourHere, booked: BookedJournal, here: JournalHere) -> bool:
    """It is here from its beginning on, and the books tell it apart from there."""
    return (hour.first > here.first or here.first == 1) and hour.first > booked.untold


def _damage(booked: BookedJournal, here: JournalHere, side: Side) -> Iterator[Difference]:
    """What is wrong behind what is booked has been said where the journal is held."""
    damage, number = here.damage, here.last.number + 1
    if damage is not None:
        if damage.number <= booked.taken or booked.held is None:
            hour = _hour_at(booked, damage.number)
            yield Difference(number=damage.number, hour=hour, words=damage.words)
    elif here.rest is not None and number <= booked.taken:
        words = f"{BOOKS} took record {number}, and in its place in {side.words} {here.rest}"
        yield Difference(number=number, hour=_hour_at(booked, number), words=words)


def _missing(booked: BookedJournal, here: JournalHere, side: Side, had: int) -> Iterator[Difference]:
    """Records that nobody has, and those that nobody will take."""
    if here.first > had + 1:
        words = f"records {had + 1} to {here.first - 1} are neither in {BOOKS} nor in {side.words}"
        yield Difference(number=had + 1, words=words)
    if side is Side.EDGE and booked.over and here.last.number > had:
        words = (
            f"records {had + 1} to {here.last.number} did not come before this journal was over: they are not"
            " booked, and will not be"
        )
        yield Difference(number=had + 1, words=words)


def _hashes(booked: BookedJournal, here: JournalHere, side: Side) -> Iterator[Difference]:
    """Of the records that hours end with, and of the last one that is booked."""
    marks: dict[tuple[int, bytes], int | None] = {}
    marks |= {(it.last.number, it.last.digest): it.hour for it in booked.hours}
    others = [booked.position.at] if booked.before is None else [booked.before.last, booked.position.at]
    for it in others:
        marks.setdefault((it.number, it.digest), None)
    passed = sorted(((*it, marks[it]) for it in marks if it[0] in here.passed), key=lambda it: it[0])
    same = [number for number, digest, _ in passed if here.passed[number].digest == digest]
    before, latest = here.first - 1, max(same, default=0)
    for number, digest, hour in passed:
        said = here.passed[number].digest
        if said == digest:
            before = number
            continue
        whose = f"one of records {before + 1} to {number} is another one"
        if latest >= number and side is not Side.EDGE:  # who says hashes may say any
            whose = f"what is behind it is the same, so the row of {BOOKS} is another one than was noted"
        words = (
            f"{BOOKS} took record {number} with the hash {_short(digest)}, and in {side.words} it has"
            f" {_short(said)}: {whose}"
        )
        yield Difference(number=number, hour=hour, words=words)


def _counts(booked: BookedJournal, here: JournalHere, side: Side) -> Iterator[Difference]:
    """Records and shares of each hour."""
    known = {it.hour: it for it in booked.hours}
    for it in here.hours[BOOKED] if here.hours else ():
        mine = known.pop(it.hour, None)
        if mine is not None:
            if words := _unlike(booked, here, mine, it, side):
                yield Difference(number=mine.last.number, hour=it.hour, words=words)
        elif max(it.first, booked.untold + 1) <= booked.taken:
            words = f"records {it.first} to {it.last.number} of it are in {side.words}, and none in {BOOKS}"
            yield Difference(number=it.last.number, hour=it.hour, words=words)
    for mine in known.values():
        if here.first <= mine.last.number <= here.last.number:
            words = f"{mine.records} records of it are in {BOOKS}, and none in {side.words}"
            yield Difference(number=mine.last.number, hour=mine.hour, words=words)


def _unlike(booked: BookedJournal, here: JournalHere, mine: Hour, it: HourHere, side: Side) -> str:
    """Of an hour that both have."""
    whole, told = is_whole(it, booked, here), it.first > booked.untold
    ends, last = mine.last.number, it.last.number
    if ends != last and max(ends, last) <= min(booked.taken, here.last.number):
        return f"it ends with record {ends} in {BOOKS}, and with {last} in {side.words}"
    if ends >= last and told:  # its beginning is removed, or its end is not there
        return _other_counts(mine, BOOKS, it, side.words, more=ends > last or not whole)
    if ends <= last and (whole or not told):  # it goes on, or began before hours were told apart
        return _other_counts(it, side.words, mine, BOOKS, more=True)
    return ""


def _other_counts(one: Hour, of_one: str, other: Hour, of_other: str, *, more: bool = False) -> str:
    """Where one has fewer records or shares of an hour than the other, or `more` where it may not."""

    def fits(mine: int, theirs: int) -> bool:
        return mine >= theirs if more else mine == theirs

    if not fits(one.records, other.records):
        return f"{one.records} records of it are in {of_one}, and {other.records} in {of_other}"
    for log2, verdict in sorted(one.shares.keys() | other.shares.keys()):
        mine, theirs = one.shares.get((log2, verdict), 0), other.shares.get((log2, verdict), 0)
        if not fits(mine, theirs):
            return (
                f"{mine} shares of difficulty 2^{log2} in it are {_verdict(verdict)} in {of_one}, and"
                f" {theirs} in {of_other}"
            )
    return ""


def _accepted(booked: BookedJournal, here: JournalHere, side: Side) -> Iterator[Difference]:
    """Of all that is booked: also of what is not here any more."""
    at = here.passed.get(booked.taken)
    if at is not None and at.accepted is not None and at.accepted != booked.accepted:
        words = (
            f"{at.accepted} shares up to it are accepted in {side.words}, and {booked.accepted} in the hours"
            f" of {BOOKS}"
        )
        yield Difference(number=booked.taken, words=words)


def _said_and_came(said: JournalHere, came: JournalHere) -> Iterator[Difference]:
    """Also of what is not booked yet."""
    edge, inbox = Side.EDGE.words, Side.INBOX.words
    for it in (it for hours in said.hours for it in hours):
        passed = came.passed.get(it.last.number)
        if passed is not None and passed.digest != it.last.digest:
            words = (
                f"record {it.last.number} has the hash {_short(it.last.digest)} in {edge}, and"
                f" {_short(passed.digest)} in {inbox}"
            )
            yield Difference(number=it.last.number, hour=it.hour, words=words)
    waiting = {it.hour: it for it in came.hours[WAITING]} if came.hours else {}
    for it in said.hours[WAITING] if said.hours else ():
        mine = waiting.get(it.hour)
        if mine is None or (mine.first, mine.last) != (it.first, it.last):
            continue
        if words := _other_counts(mine, inbox, it, edge):
            yield Difference(number=it.last.number, hour=it.hour, words=words)


def _hour_at(booked: BookedJournal, number: int) -> int | None:
    """Of a record that the books have."""
    return next((it.hour for it in booked.hours if it.last.number >= number), None)


def _short(digest: bytes) -> str:
    return digest.hex()[:DIGITS_SHOWN]


def _verdict(number: int) -> str:
    known = number in {int(it) for it in Verdict}
    return Verdict(number).name.lower().replace("_", " ") if known else f"of verdict {number}"
