"""Forwarded shares in memory: each is counted once, whatever comes between, and none is a row for nothing."""

import struct
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.books.journal.forwarded_shares import (
    UNRESOLVED_BLOCKS_MAX,
    Forwarded,
    ForwardedShares,
    SubmitChanges,
    unanswered,
)
from pool.books.journal.upstream_verdicts import UpstreamTally, pack, unpack
from stratum.tallies import Verdict, unpack_tallies
from stratum.upstream.shares import (
    UNRESOLVED_MAX,
    NotSent,
    RejectReason,
    SubmitAnswer,
    SubmitVerdict,
    UpstreamJob,
    UpstreamShare,
)

TARGET = 0xFFFF << 188
JOB = UpstreamJob(upstream="north", connection=1, job_id="a", version=0, filler=b"", target=TARGET)
ACCEPTED, REJECTED, UNANSWERED = SubmitVerdict.ACCEPTED, SubmitVerdict.REJECTED, SubmitVerdict.UNANSWERED


def share(key: int, *, worker: int = 7, counted: bool = False) -> Forwarded:
    return Forwarded(
        key=key.to_bytes(32, "big"),
        worker=worker,
        epoch=3,
        difficulty_log2=14,
        counted=counted,
        target=TARGET,
    )


def answer(
    it: Forwarded, verdict: SubmitVerdict = ACCEPTED, reason: RejectReason | None = None
) -> SubmitAnswer:
    sent = UpstreamShare(key=it.key, job=JOB, extranonce2=b"", ntime=0, nonce=0, version=0)
    return SubmitAnswer(share=sent, verdict=verdict, reason=reason)


def note(book: ForwardedShares, *shares: Forwarded) -> None:
    """As a channel does with shares that it sends."""
    for it in shares:
        assert book.note(it) is None


def not_sent(book: ForwardedShares, it: Forwarded) -> None:
    """As a channel does whose upstream does not take it."""
    note(book, it)
    book.resolve(it.key, NotSent.NOT_CONNECTED)


def resolve(
    book: ForwardedShares,
    it: Forwarded,
    verdict: SubmitVerdict = ACCEPTED,
    reason: RejectReason | None = None,
) -> None:
    """As a channel does with an answer."""
    book.resolve(it.key, answer(it, verdict, reason))


def tallied(changes: SubmitChanges) -> dict[tuple[int, Verdict], int]:
    """By worker and verdict."""
    found: Counter[tuple[int, Verdict]] = Counter()
    for it in unpack_tallies(changes.tallies):
        assert (it.rate, it.difficulty_log2) == (3, 14)
        found[it.worker, it.verdict] += it.count
    return dict(found)


def said(changes: SubmitChanges) -> dict[tuple[SubmitVerdict, RejectReason | None], int]:
    found: Counter[tuple[SubmitVerdict, RejectReason | None]] = Counter()
    for it, count in unpack([changes.upstream]).items():
        assert (it.worker, it.epoch, it.target) == (7, 3, TARGET)
        found[it.verdict, it.reason] += count
    return dict(found)


def test_a_share_that_waits_for_its_answer_is_a_row_and_no_tally() -> None:
    book = ForwardedShares()
    note(book, share(1), share(2))
    assert book.collect() == SubmitChanges(noted=(share(1), share(2)))
    assert len(book) == 2
    assert not book.collect()  # once


@pytest.mark.parametrize(
    ("verdict", "reason", "tally"),
    [
        (ACCEPTED, None, Verdict.ACCEPTED),
        (REJECTED, RejectReason.STALE, Verdict.UPSTREAM_REJECTED),
        (UNANSWERED, None, Verdict.UNDELIVERED),
    ],
)
def test_an_answer_is_one_tally_one_verdict_and_the_end_of_the_row(
    verdict: SubmitVerdict, reason: RejectReason | None, tally: Verdict
) -> None:
    book = ForwardedShares()
    note(book, share(1))
    book.collect()
    resolve(book, share(1), verdict, reason)
    changes = book.collect()
    assert (changes.noted, changes.resolved) == ((), (share(1).key,))
    assert tallied(changes) == {(7, tally): 1}
    assert said(changes) == {(verdict, reason): 1}
    assert len(book) == 0
    assert not book.collect()


def test_a_share_answered_between_two_commits_is_never_a_row() -> None:
    book = ForwardedShares()
    note(book, share(1), share(2))
    resolve(book, share(1))
    changes = book.collect()
    assert (changes.noted, changes.resolved) == ((share(2),), ())
    assert tallied(changes) == {(7, Verdict.ACCEPTED): 1}


def test_a_share_that_was_not_sent_is_undelivered_and_nobody_said_anything() -> None:
    book = ForwardedShares()
    not_sent(book, share(1))
    changes = book.collect()
    assert tallied(changes) == {(7, Verdict.UNDELIVERED): 1}
    assert (changes.noted, changes.resolved, changes.upstream) == ((), (), b"")


def test_a_block_that_the_engine_tallied_gives_only_its_upstreams_word() -> None:
    book = ForwardedShares()
    note(book, share(1, counted=True))
    resolve(book, share(1, counted=True), REJECTED, RejectReason.STALE)
    not_sent(book, share(2, counted=True))
    changes = book.collect()
    assert changes.tallies == b""
    assert said(changes) == {(REJECTED, RejectReason.STALE): 1}


def test_a_rejection_always_has_a_reason() -> None:
    book = ForwardedShares()
    note(book, share(1))
    resolve(book, share(1), REJECTED)
    assert said(book.collect()) == {(REJECTED, RejectReason.OTHER): 1}


def test_what_is_counted_together_is_one_record() -> None:
    book = ForwardedShares()
    for number in range(1000):
        note(book, share(number))
        resolve(book, share(number))
    changes = book.collect()
    assert (len(changes.tallies), len(changes.upstream)) == (16, 48)
    assert tallied(changes) == {(7, Verdict.ACCEPTED): 1000}


def test_a_key_may_come_again_when_it_is_resolved() -> None:
    book = ForwardedShares()
    note(book, share(1))
    book.collect()
    resolve(book, share(1))
    note(book, share(1))
    changes = book.collect()  # the row goes, and comes
    assert (changes.noted, changes.resolved) == ((share(1),), (share(1).key,))
    resolve(book, share(1))
    assert book.collect().resolved == (share(1).key,)


def test_unresolved_shares_are_bounded_and_what_has_no_room_is_undelivered() -> None:
    book = ForwardedShares(unresolved_max=2)
    note(book, share(1), share(2))
    assert book.note(share(3)) is NotSent.TOO_MANY_UNRESOLVED
    assert len(book) == 2
    changes = book.collect()
    assert (changes.noted, changes.upstream) == ((share(1), share(2)), b"")
    assert tallied(changes) == {(7, Verdict.UNDELIVERED): 1}
    with pytest.raises(KeyError):
        book.resolve(share(3).key, NotSent.TOO_MANY_UNRESOLVED)
    resolve(book, share(1))
    note(book, share(4))


def test_two_connections_of_one_upstream_have_room() -> None:
    book = ForwardedShares()
    note(book, *(share(number) for number in range(UNRESOLVED_MAX)))
    assert book.note(share(UNRESOLVED_MAX)) is NotSent.TOO_MANY_UNRESOLVED


def test_a_block_has_room_however_many_shares_wait_and_however_many_blocks_of_others() -> None:
    """Mute upstreams fill all of it, and one of them calls each share a block."""
    book = ForwardedShares(unresolved_max=2)
    note(book, share(1), share(2))
    assert book.note(share(3)) is NotSent.TOO_MANY_UNRESOLVED
    for number in range(UNRESOLVED_BLOCKS_MAX):
        assert book.note(share(100 + number), block_of="evil") is None
    assert book.note(share(50), block_of="evil") is NotSent.TOO_MANY_UNRESOLVED
    assert book.note(share(4), block_of="north") is None
    assert book.note(share(3)) is NotSent.TOO_MANY_UNRESOLVED, "what is no block has no part in it"
    resolve(book, share(100))
    assert book.note(share(50), block_of="evil") is None, "a place is free again"
    resolve(book, share(1))
    note(book, share(5))
    assert len(book) == 3 + UNRESOLVED_BLOCKS_MAX


def test_a_share_is_noted_once_and_resolved_once_and_what_is_refused_changes_nothing() -> None:
    book = ForwardedShares()
    known, stranger = share(1), share(2)
    note(book, known)
    with pytest.raises(KeyError):
        book.note(known)
    with pytest.raises(KeyError):
        resolve(book, stranger)
    assert book.collect() == SubmitChanges(noted=(known,))
    resolve(book, known)
    for late in (answer(known, REJECTED), NotSent.NOT_CONNECTED):
        with pytest.raises(KeyError):
            book.resolve(known.key, late)
    changes = book.collect()
    assert tallied(changes) == {(7, Verdict.ACCEPTED): 1}
    assert said(changes) == {(ACCEPTED, None): 1}
    assert changes.resolved == (known.key,)


def test_whatever_must_be_committed_is_told_at_once() -> None:
    told: list[int] = []
    book = ForwardedShares(lambda: told.append(1), unresolved_max=1)
    note(book, share(1))
    assert len(told) == 1
    book.note(share(2))  # no room
    assert len(told) == 2
    resolve(book, share(1))
    assert len(told) == 3
    not_sent(book, share(3))
    assert len(told) > 3


def test_rows_of_a_dead_pool_are_undelivered_and_unanswered() -> None:
    changes = unanswered([share(1), share(2), share(3, counted=True)])
    assert tallied(changes) == {(7, Verdict.UNDELIVERED): 2}
    assert said(changes) == {(UNANSWERED, None): 3}
    assert (changes.noted, len(changes.resolved)) == ((), 3)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("note", "resolve", "not sent", "commit")),
        st.integers(0, 5),
        st.sampled_from(list(SubmitVerdict)),
    ),
    max_size=60,
)


@settings(deadline=None, derandomize=True)
@given(steps=STEPS)
def test_after_any_history_rows_and_tallies_are_every_share_once(
    steps: list[tuple[str, int, SubmitVerdict]],
) -> None:
    book, rows, told = ForwardedShares(), set[bytes](), Counter[Verdict]()
    open_, forwarded = set[int](), 0
    for what, key, verdict in [*steps, ("commit", 0, ACCEPTED)]:
        it = share(key)
        if what == "commit":
            changes = book.collect()
            assert rows.issuperset(changes.resolved)
            rows -= set(changes.resolved)
            assert rows.isdisjoint(share.key for share in changes.noted)
            rows |= {share.key for share in changes.noted}
            for (_, tally), count in tallied(changes).items():
                told[tally] += count
            assert rows == {share(key).key for key in open_}
            assert told.total() + len(rows) == forwarded
        elif what == "resolve" and key in open_:
            resolve(book, it, verdict)
            open_.remove(key)
        elif what == "note" and key not in open_:
            note(book, it)
            open_.add(key)
            forwarded += 1
        elif what == "not sent" and key not in open_:
            not_sent(book, it)
            forwarded += 1


# As it is written


def test_verdicts_are_packed_as_every_version_reads_them() -> None:
    """48 bytes: worker, rate, target as a number is written, verdict, reason, nothing, count."""
    packed = pack({UpstreamTally(7, 3, 0xAB, REJECTED, RejectReason.LOW_DIFFICULTY): 5})
    assert packed == struct.pack("<II", 7, 3) + bytes(31) + b"\xab" + struct.pack("<BBHI", 1, 3, 0, 5)
    every = {
        UpstreamTally(7, 3, (1 << 256) - 1, verdict, reason): number
        for number, (verdict, reason) in enumerate(
            [(ACCEPTED, None), (UNANSWERED, None), *((REJECTED, reason) for reason in RejectReason)], 1
        )
    }
    assert unpack([pack(every)]) == every
    assert unpack([pack(every), pack(every)]) == {it: 2 * count for it, count in every.items()}
    assert pack({}) == b""
