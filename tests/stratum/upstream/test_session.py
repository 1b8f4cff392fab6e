"""One connection to another pool, line by line: the conversation, and how its jobs become work."""

import json
from typing import Any

import pytest

from stratum.difficulty import DIFF1
from stratum.job import Work
from stratum.upstream.events import (
    ExtranonceChanged,
    JobReceived,
    MaskChanged,
    MessageShown,
    OddMessage,
    ReconnectAsked,
    TargetChanged,
    Up,
)
from stratum.upstream.extranonce_split import ExtranonceSplit
from stratum.upstream.messages import BrokenUpstream, Reconnect, RefusedByUpstream
from stratum.upstream.session import (
    AGENT,
    TRANSITIONS,
    State,
    Step,
)
from stratum.upstream.shares import (
    UpstreamJob,
)
from tests.fakes.upstream_lines import (
    AUTHORISED,
    BLOCK_A,
    BLOCK_B,
    CONFIGURED,
    SUBSCRIBED,
    call,
    events_of,
    mining_session,
    new_session,
    notify,
    said,
    share_of,
    tell,
)

# The conversation


def test_the_handshake() -> None:
    session = new_session(suggest_difficulty=65_536)
    configure, subscribe = said(session)
    assert configure["method"] == "mining.configure"
    assert configure["params"] == [
        ["version-rolling", "subscribe-extranonce"],
        {"version-rolling.mask": "1fffe000", "version-rolling.min-bit-count": 2},
    ]
    assert subscribe == call("mining.subscribe", AGENT, id_=2)

    assert tell(session, CONFIGURED, SUBSCRIBED) == []
    assert said(session) == [call("mining.authorize", "acme.farm7", "hunter2", id_=3)]
    assert (session.state, session.session_id, session.mask) == (State.AUTHORISING, "s1", 0x1FFFE000)

    assert tell(session, AUTHORISED) == []
    assert said(session) == [
        call("mining.extranonce.subscribe", id_=4),
        call("mining.suggest_difficulty", 65_536, id_=5),
    ]
    assert tell(session, notify()) == [Up()]
    assert session.state is State.MINING
    assert session.extranonce1.hex() == "0a0b0c0d"
    assert session.split == ExtranonceSplit(filler_bytes=0, prefix_bytes=4, miner_bytes=4)
    assert session.target == DIFF1


def test_a_session_id_is_offered_for_resumption() -> None:
    assert said(new_session(session_id="s9"))[1]["params"] == [AGENT, "s9"]


@pytest.mark.parametrize(
    "order",
    [
        (CONFIGURED, SUBSCRIBED, AUTHORISED, notify()),
        (SUBSCRIBED, CONFIGURED, AUTHORISED, notify()),
        (CONFIGURED, SUBSCRIBED, notify(), AUTHORISED),
        (CONFIGURED, notify("early"), SUBSCRIBED, AUTHORISED, notify()),
    ],
)
def test_pools_answer_in_other_orders(order: tuple[dict[str, Any], ...]) -> None:
    session = new_session()
    assert tell(session, *order) == [Up()]
    assert share_of(session).job.job_id == "j1"
    assert session.mask == 0x1FFFE000


def test_a_pool_that_never_answers_configure_is_mined_on_without_version_rolling() -> None:
    session = new_session()
    assert tell(session, SUBSCRIBED, AUTHORISED, notify()) == [Up()]
    assert session.mask is None
    assert tell(session, CONFIGURED) == [MaskChanged(0x1FFFE000)], "late, and still of use"


def test_a_line_may_come_a_byte_at_a_time_or_with_others_and_empty_ones() -> None:
    session = new_session()
    for byte in b"".join(json.dumps(m).encode() + b"\r\n \n\n" for m in (CONFIGURED, SUBSCRIBED, AUTHORISED)):
        session.receive_data(bytes([byte]))
        assert events_of(session) == []
    assert session.state is State.WAITING


@pytest.mark.parametrize(("state", "step"), [(state, step) for state in State for step in Step])
def test_every_step_in_every_state_is_a_transition_or_an_error(state: State, step: Step) -> None:
    session = new_session()
    session.state = state
    if (state, step) in TRANSITIONS:
        session._advance(step)
        assert session.state is TRANSITIONS[state, step]
    else:
        with pytest.raises(BrokenUpstream, match=f"{step.value} while {state.value}"):
            session._advance(step)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"id": 2, "result": None, "error": [20, "full", None]}, "refuses mining.subscribe: full"),
        ({"id": 2, "result": None, "error": "go away"}, "refuses mining.subscribe: go away"),
        ({"id": 3, "result": False, "error": None}, "refuses mining.authorize: without a word"),
        ({"id": 3, "result": None, "error": {"code": 24, "message": "no"}}, "refuses mining.authorize: no"),
        ({"id": 3, "result": False, "reject-reason": "banned"}, "refuses mining.authorize: banned"),
    ],
)
def test_a_refusal_ends_it_with_the_words_of_the_pool(answer: dict[str, Any], reason: str) -> None:
    session = new_session()
    with pytest.raises(RefusedByUpstream, match=f"^{reason}$"):
        tell(session, *([SUBSCRIBED] if answer["id"] == 3 else []), answer)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (call("client.get_version", id_=7), {"id": 7, "result": AGENT, "error": None}),
        (call("mining.ping", id_="p"), {"id": "p", "result": "pong", "error": None}),
        (call("mining.pong"), None),
        (call("mining.unheard_of"), None),
        (
            call("mining.unheard_of", id_=8),
            {"id": 8, "result": None, "error": [20, "Method not supported", None]},
        ),
        ({"id": None, "method": "mining.unheard_of", "params": {"a": 1}}, None),
        ({"id": 99, "result": True, "error": None}, None),
        ({"id": "x", "result": True, "error": None}, None),
    ],
)
def test_questions_of_the_pool(question: dict[str, Any], answer: dict[str, Any] | None) -> None:
    session = mining_session()
    assert all(isinstance(event, OddMessage) for event in tell(session, question))
    assert said(session) == ([answer] if answer else [])


def test_a_ping_is_something_that_this_pool_is_known_to_answer() -> None:
    session = mining_session()
    session.ping()
    assert [message["method"] for message in said(session)] == ["mining.ping"]
    tell(session, {"id": 4, "result": None, "error": [20, "no such thing", None]})
    session.ping()
    assert [message["method"] for message in said(session)] == ["mining.extranonce.subscribe"]


# Jobs and what belongs to them


def test_a_job_becomes_work_with_everything_that_a_submit_needs() -> None:
    session = new_session()
    tell(session, CONFIGURED, SUBSCRIBED, AUTHORISED, call("mining.set_difficulty", 512))
    tell(session, notify("j7", block="00010203" + "ab" * 28, clean=True))
    work = session.work
    assert work == Work(
        prevhash_internal=bytes.fromhex("03020100") + b"\xab" * 28,
        coinbase1=bytes.fromhex("010a0b0c0d"),
        coinbase2=b"\x02",
        branch=(b"\xcc" * 32,),
        version=0x20000000,
        nbits=0x1D00FFFF,
        ntime=0x6553F100,
        ntime_min=0x6553F100,
        ntime_max=0x6553F100 + 7_000,
        height=0,
        network_target=DIFF1,
        origin=UpstreamJob(
            upstream="north", connection=5, job_id="j7", version=0x20000000, filler=b"", target=DIFF1 // 512
        ),
    )


def test_the_last_second_of_header_time_is_not_passed() -> None:
    session = mining_session()
    message = notify("j2")
    message["params"][7] = "fffffff0"
    tell(session, message)
    assert session.work is not None
    assert (session.work.ntime_min, session.work.ntime_max) == (0xFFFFFFF0, 0xFFFFFFFF)


def test_difficulty_and_extranonce_take_effect_with_the_next_job_and_are_told_before_it() -> None:
    session = mining_session()
    changes = [
        call("mining.set_difficulty", 4),
        call("mining.set_difficulty", 8),
        call("mining.set_extranonce", "ff", 20),
    ]
    assert tell(session, *changes) == []
    assert (session.target, session.extranonce1.hex()) == (DIFF1, "0a0b0c0d")
    events = tell(session, notify("j2"))
    assert session.work is not None
    split = ExtranonceSplit(filler_bytes=8, prefix_bytes=4, miner_bytes=8)
    assert events == [
        ExtranonceChanged(b"\xff", split),
        TargetChanged(DIFF1 // 8),
        JobReceived(session.work, True),
    ]
    assert session.work.coinbase1 == b"\x01\xff" + bytes(8), "what no firmware takes is zero"
    assert tell(session, *changes[1:], notify("j3")) == [JobReceived(session.work, False)]


@pytest.mark.parametrize(
    ("block", "clean", "expected"),
    [(BLOCK_A, False, False), (BLOCK_A, True, True), (BLOCK_B, False, True), (BLOCK_B, True, True)],
)
def test_a_job_is_clean_if_the_pool_says_so_or_the_block_is_another(
    block: str, clean: bool, expected: bool
) -> None:
    session = mining_session()
    [event] = tell(session, notify("j2", block=block, clean=clean))
    assert isinstance(event, JobReceived)
    assert event.clean is expected


def test_a_version_mask_holds_at_once() -> None:
    session = mining_session()
    assert tell(session, call("mining.set_version_mask", "00c00000")) == [MaskChanged(0x00C00000)]
    assert tell(session, call("mining.set_version_mask", "00C00000")) == []
    assert tell(session, call("mining.set_version_mask", "ffffffff")) == [MaskChanged(0x1FFFE000)]
    assert tell(session, call("mining.set_version_mask", "00000000")) == [MaskChanged(0)]
    without = mining_session(mask=False)
    (odd,) = tell(without, call("mining.set_version_mask", "1fffe000"))
    assert isinstance(odd, OddMessage), "it was not granted"


def test_what_is_for_people_and_where_to_go_are_events() -> None:
    session = mining_session()
    assert tell(session, call("client.reconnect", "b.pool.example", "3334", 5)) == [
        ReconnectAsked(Reconnect(host="b.pool.example", port=3334, wait_s=5.0))
    ]
    words = "acme.farm7: maintenance\x1b[2J at noon\n" + "!" * 500
    [shown] = tell(session, call("client.show_message", words))
    assert isinstance(shown, MessageShown)
    assert shown.words.startswith("***: maintenance [2J at noon !!")
    assert len(shown.words) == 200
