"""What charges nobody is counted: by name and day, and nothing of it is lost when a name is forgotten."""

from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from stratum.miners.uncharged import DAYS_KEPT, NOBODY, REFUSED, UNREADABLE, Uncharged
from stratum.tallies import Verdict, pack_tallies
from tests.stages.sessions import SessionStage

STALE, LOW = Verdict.STALE, Verdict.LOW_DIFFICULTY


def shares(worker: int, verdict: Verdict, count: int) -> bytes:
    return pack_tallies({(worker, 0, 0, verdict): count})


def test_what_is_older_than_yesterday_is_gone() -> None:
    days = iter(range(100, 104))
    book = Uncharged(lambda: next(days))
    for _ in range(4):
        book.add_shares(shares(7, STALE, 1))
    assert DAYS_KEPT == 2
    assert book.of([7], 0)[STALE] == 2
    assert book.of([7], 103)[STALE] == 1
    assert book.of([7], 104)[STALE] == 0


def test_a_number_that_is_nobodys_any_more_leaves_nothing_to_the_next_who_has_it() -> None:
    book = Uncharged(lambda: 100)
    book.add_shares(shares(7, LOW, 5))
    book.add_line(7, REFUSED)
    book.forget(7)
    assert not any(book.of([7], 0))
    assert (book.of([NOBODY], 0)[LOW], book.of([NOBODY], 0)[REFUSED]) == (5, 1)
    book.forget(1 << 20)  # of whom nothing was counted


def test_who_is_not_known_has_nothing() -> None:
    assert not any(Uncharged(lambda: 100).of([1, 1 << 30], 0))


Step = tuple[str, int, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("shares", "line", "forget")),
        st.integers(0, 3_000),
        st.integers(1, 10),
        st.integers(1, 9),
    ),
    max_size=30,
)


@given(STEPS)
@example([("shares", 0, 1, 1), ("forget", 0, 1, 1)])  # nobody is not forgotten
@settings(max_examples=50, deadline=None)
def test_whatever_happens_the_sum_over_all_numbers_is_what_came(steps: list[Step]) -> None:
    book, came = Uncharged(lambda: 100), Counter[int]()
    for what, worker, verdict, count in steps:
        if what == "shares":
            book.add_shares(shares(worker, Verdict(verdict), count))
            came[verdict] += count
        elif what == "line":
            book.add_line(worker, UNREADABLE)
            came[UNREADABLE] += 1
        else:
            book.forget(worker)
    total = book.of(range(5_000), 0)
    assert {at: count for at, count in enumerate(total) if count} == dict(came)


def test_lines_that_are_no_shares_are_counted_under_the_first_name_of_their_connection() -> None:
    stage = SessionStage()
    uncharged = stage.services.uncharged
    stranger = stage.connect()
    stranger.say(b"what?\n")
    miner = stage.mining()
    miner.ask("mining.get_transactions", "0")
    miner.ask("mining.nothing_of_the_sort")
    miner.say(b"{\n")
    (worker,) = miner.assignment.workers
    assert uncharged.of([worker], 0)[REFUSED:] == [2, 1]
    assert uncharged.of([NOBODY], 0)[REFUSED:] == [0, 1]
