"""Shares for another pool: the line that is sent, the answer that comes, and what it means."""

from typing import Any

import pytest

from stratum.upstream.messages import BrokenUpstream
from stratum.upstream.shares import (
    UNANSWERED_BLOCKS_MAX,
    UNANSWERED_MAX,
    NotSent,
    RejectReason,
    SubmitAnswer,
    SubmitVerdict,
)
from tests.fakes.upstream_lines import call, mining_session, new_session, notify, said, share_of, tell


@pytest.mark.parametrize(
    ("mask", "rolled", "sixth"),
    [
        ("1fffe000", 0, ["00000000"]),
        ("1fffe000", 0x12344000, ["12344000"]),
        ("0000e000", 0x2000, ["00002000"]),
        (None, 0, []),
    ],
)
def test_a_submit_line(mask: str | None, rolled: int, sixth: list[str]) -> None:
    session = mining_session(mask=mask is not None)
    if mask is not None:
        tell(session, call("mining.set_version_mask", mask))
    share = share_of(session, rolled=rolled)
    assert session.refusal(share) is None
    session.submit(share, 0.0)
    params = ["acme.farm7", "j1", "00" * 8, "6553f101", "00000abc", *sixth]
    assert said(session) == [call("mining.submit", *params, id_=7)]


def test_version_bits_of_the_job_itself_are_inside_the_mask_too() -> None:
    """The pool replaces all bits inside the mask by those of the submit."""
    session = mining_session()
    message = notify("j2")
    message["params"][5] = "3fffe000"
    tell(session, message)
    session.submit(share_of(session), 0.0)
    assert said(session)[0]["params"][5] == "1fffe000"


def test_ids_of_submits_are_all_different_and_a_block_goes_first() -> None:
    session = mining_session()
    for at, block in enumerate([False, False, True]):
        session.submit(share_of(session, key=b"%d" % at, is_block=block), 0.0)
    assert [message["id"] for message in said(session)] == [9, 7, 8]


def answered(error: Any, *, again: bool = False, **fields: Any) -> SubmitAnswer:
    session = mining_session()
    session.submit(share_of(session), 0.0, again=again)
    [event] = tell(session, {"id": 7, "result": None if error or fields else True, "error": error} | fields)
    assert isinstance(event, SubmitAnswer)
    assert len(session.submits) == 0
    return event


@pytest.mark.parametrize(
    ("error", "fields", "reason", "words"),
    [
        ([21, "Job not found", None], {}, RejectReason.STALE, "Job not found"),
        ([22, "Duplicate share", None], {}, RejectReason.DUPLICATE, "Duplicate share"),
        ([23, "", None], {}, RejectReason.LOW_DIFFICULTY, ""),
        ([24, "who?", None], {}, RejectReason.UNAUTHORISED, "who?"),
        ([25], {}, RejectReason.NOT_SUBSCRIBED, ""),
        ([20, "share is STALE", None], {}, RejectReason.STALE, "share is STALE"),
        ([20, "ntime out of range", None], {}, RejectReason.OTHER, "ntime out of range"),
        ({"code": 22, "message": "dup"}, {}, RejectReason.DUPLICATE, "dup"),
        ("Low difficulty", {}, RejectReason.LOW_DIFFICULTY, "Low difficulty"),
        (
            None,
            {"result": False, "reject-reason": "Above target"},
            RejectReason.LOW_DIFFICULTY,
            "Above target",
        ),
        (None, {"result": False}, RejectReason.OTHER, ""),
        (None, {"result": False, "reject-reason": 7}, RejectReason.OTHER, ""),
        (None, {"result": "true"}, RejectReason.OTHER, ""),
        ([True, ["x"]], {"result": True}, RejectReason.OTHER, ""),
        ([1e300, {"a": 1}], {}, RejectReason.OTHER, ""),
        (["acme.farm7", "acme.farm7 is hunter2"], {}, RejectReason.OTHER, "*** is ***"),
    ],
)
def test_a_rejection_by_its_reason(
    error: Any, fields: dict[str, Any], reason: RejectReason, words: str
) -> None:
    answer = answered(error, **fields)
    assert (answer.verdict, answer.reason, answer.words) == (SubmitVerdict.REJECTED, reason, words)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (None, SubmitVerdict.ACCEPTED),
        ([22, "Duplicate share", None], SubmitVerdict.ACCEPTED),
        ([23, "Low difficulty", None], SubmitVerdict.REJECTED),
        ([21, "Stale", None], SubmitVerdict.UNANSWERED),
        ([24, "Unauthorised", None], SubmitVerdict.UNANSWERED),
        ([20, "?", None], SubmitVerdict.UNANSWERED),
    ],
)
def test_what_an_answer_means_to_a_share_that_was_sent_before(error: Any, verdict: SubmitVerdict) -> None:
    """Only what is about the share itself tells what became of the first copy."""
    assert answered(error, again=True).verdict is verdict


def test_an_answer_counts_once_and_its_id_may_be_text() -> None:
    session = mining_session()
    session.submit(share_of(session), 0.0)
    answer = {"id": "7", "result": True, "error": None}
    assert [type(event) for event in tell(session, answer, answer)] == [SubmitAnswer]


def test_a_reason_that_is_no_text_is_none_and_the_share_is_answered() -> None:
    session = mining_session()
    session.submit(share_of(session), 0.0)
    session.receive_data(b'{"id":7,"result":false,"error":null,"reject-reason":"\xff"}\n')
    event = session.next_event()
    assert isinstance(event, SubmitAnswer)
    assert (event.verdict, event.reason, event.words) == (SubmitVerdict.REJECTED, RejectReason.OTHER, "")


def test_answers_before_nonsense_are_not_lost() -> None:
    session = mining_session()
    session.submit(share_of(session), 0.0)
    session.receive_data(b'{"id":7,"result":true,"error":null}\nnonsense\n')
    event = session.next_event()
    assert isinstance(event, SubmitAnswer)
    with pytest.raises(BrokenUpstream):
        session.next_event()


def test_shares_without_an_answer_are_given_up_by_age_or_taken_back_at_the_end() -> None:
    session = mining_session()
    for at in range(4):
        session.submit(share_of(session, key=b"%d" % at), float(at), again=at == 3)
    assert session.submits.oldest_s == 0.0
    assert [answer.key for answer in session.submits.give_up(1.0)] == [b"0", b"1"]
    assert tell(session, {"id": 7, "result": True, "error": None}) == [], "too late"
    once, twice = session.submits.collect()
    assert ([share.key for share in once], [share.key for share in twice]) == ([b"2"], [b"3"])
    assert session.submits.oldest_s is None


def test_why_a_share_is_not_sent() -> None:
    session = mining_session()
    share, block = share_of(session), share_of(session, is_block=True)
    assert new_session().refusal(share) is NotSent.NOT_CONNECTED
    assert session.refusal(share_of(session, rolled=0x1000)) is NotSent.VERSION_OUTSIDE_MASK
    for _ in range(UNANSWERED_MAX):
        session.submit(share, 0.0)
    assert session.refusal(share) is NotSent.TOO_MANY_UNANSWERED
    session.data_to_send()
    for _ in range(UNANSWERED_BLOCKS_MAX):
        assert session.refusal(block) is None
        session.submit(block, 0.0)
    assert session.refusal(block) is NotSent.TOO_MANY_UNANSWERED
