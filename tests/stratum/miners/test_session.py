"""One miner connection as a table: what it says, in which state, and what it hears. No sockets, no clock."""

import itertools

import pytest

from stratum.miners.mining_session import State
from tests.stages.sessions import (
    AUTHORIZE,
    NTIME,
    SUBSCRIBE,
    SessionStage,
    encode,
    in_state,
    make_work,
    words,
)

ROLLING = ("mining.configure", ["version-rolling"], {"version-rolling.mask": "1fffe000"})
START = "result set_difficulty notify"

# What is said, then what is heard when CONNECTED, SUBSCRIBED, AUTHORISED (not subscribed yet), MINING.
CONVERSATION: list[tuple[tuple[object, ...], str, str, str, str]] = [
    (SUBSCRIBE, "result", "result", START, "result"),
    (AUTHORIZE, "result", START, "result", "result"),
    (("mining.authorize", "nobody.c01.u1", "x"), "24", "24", "24", "24"),
    (("mining.authorize", ""), "24", "24", "24", "24"),
    (("mining.authorize",), "20", "20", "20", "20"),
    (("mining.authorize", 7), "20", "20", "20", "20"),
    (ROLLING, "result", "result", "result", "result"),
    (("mining.configure",), "20", "20", "20", "20"),
    (("mining.configure", "version-rolling"), "20", "20", "20", "20"),
    (("mining.configure", ["version-rolling"], []), "20", "20", "20", "20"),
    (("mining.extranonce.subscribe",), "result", "result", "result", "result"),
    (("mining.suggest_difficulty", 65536), "result", "result", "result", "result"),
    (("mining.suggest_difficulty",), "20", "20", "20", "20"),
    (("mining.suggest_difficulty", "much"), "20", "20", "20", "20"),
    (("mining.suggest_target", "00" * 4 + "ff" * 28), "result", "result", "result", "result"),
    (("mining.suggest_target", "target"), "20", "20", "20", "20"),
    (("mining.get_transactions", "1"), "20", "20", "20", "20"),
    (("mining.ping",), "result", "result", "result", "result"),
    (("mining.pong",), "", "", "", ""),
    (("mining.capabilities", {}), "20", "20", "20", "20"),
    (("eth_submitLogin", "x"), "20", "20", "20", "20"),
    (("mining.submit", "acme.c01.u1", "1", "00" * 8, "00", "00"), "25", "24", "25", "21"),
    (("mining.submit", "acme.c01.u1", "1", "00" * 8, "zz", "00"), "20", "20", "20", "20"),
    (("mining.submit", "acme.c01.u1", "1", "00" * 8), "20", "20", "20", "20"),
]
# Where saying it leads; everything else leads nowhere.
NEXT_STATE = {
    ("mining.subscribe", State.CONNECTED): State.SUBSCRIBED,
    ("mining.subscribe", State.AUTHORISED): State.MINING,
    ("mining.authorize", State.CONNECTED): State.AUTHORISED,
    ("mining.authorize", State.SUBSCRIBED): State.MINING,
}


@pytest.mark.parametrize(
    ("request_", "state", "heard"),
    [(row[0], state, heard) for row in CONVERSATION for state, heard in zip(State, row[1:], strict=True)],
    ids=lambda value: value.value if isinstance(value, State) else str(value).replace("mining.", ""),
)
def test_every_method_in_every_state(request_: tuple[str, ...], state: State, heard: str) -> None:
    miner = in_state(state)
    method, *params = request_
    said = miner.ask(method, *params)
    miner.stage.judge()
    assert words(said + miner.hear()) == heard
    taken = "result" in heard
    assert miner.session.state is (NEXT_STATE.get((method, state), state) if taken else state)
    assert miner.session.closing is None, "no such thing costs a miner its connection"


def test_what_machines_say_alike_is_kept_once_for_all_of_them() -> None:
    stage = SessionStage(make_work(levels=1))
    sessions = []
    for unit in range(2):
        miner = stage.connect()
        miner.ask("mining.subscribe", "bmminer/2.0")
        miner.ask("mining.authorize", f"acme.c01.u{unit}", "x")
        miner.ask("mining.configure", ["version-rolling"], {"version-rolling.mask": "00c00000"})
        sessions.append(miner.session)
    one, other = sessions
    assert one.state is other.state is State.MINING
    assert one.agent == "bmminer/2.0"
    assert one.agent is other.agent
    assert one.difficulty.pinned_from is other.difficulty.pinned_from
    assert one.assignment.asked_mask == 0x00C00000
    assert one.assignment.asked_mask is other.assignment.asked_mask


def test_the_whole_start_of_a_miner_byte_for_byte() -> None:
    miner = SessionStage(make_work(levels=1)).connect()
    miner.say(
        b'{"id":1,"method":"mining.configure","params":[["version-rolling"],'
        b'{"version-rolling.mask":"ffffffff","version-rolling.min-bit-count":2}]}\n'
        b'{"id":2,"method":"mining.subscribe","params":["bmminer/2.0"]}\n'
        b'{"id":3,"method":"mining.authorize","params":["acme.c01.u1","x"]}\n'
    )
    work = make_work(levels=1)
    assert bytes(miner.transcript) == (
        b'{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"error":null}\n'
        b'{"id":2,"result":[[["mining.set_difficulty","00000000"],["mining.notify","00000000"]],'
        b'"00000000",8],"error":null}\n'
        b'{"id":3,"result":true,"error":null}\n'
        b'{"id":null,"method":"mining.set_version_mask","params":["1fffe000"]}\n'
        b'{"id":null,"method":"mining.set_difficulty","params":[0.00000001490116119384765625]}\n'
        b'{"id":null,"method":"mining.notify","params":["100001",'
        b'"fabdbdcaa912c602495e2e658091db65ff685eb2b4deb4cd2a9978b27fc66739",'
        + b'"%b","%b",'
        % (work.coinbase1.hex().encode(), work.coinbase2.hex().encode())
        + b'["8f1b614611b4242cd889c3e69db4878b9dff34a8b3579aee2df8310ab0fd5fae"],'
        b'"20000000","1d00ffff","6553f100",true]}\n'
    )
    assert miner.mine() == {"id": 1, "result": True, "error": None}


def test_a_share_is_accepted_once_in_whatever_case() -> None:
    miner = SessionStage().mining()
    share = miner.share()
    assert miner.submit(*share)["result"] is True
    assert miner.submit(*share)["error"] == [22, "Duplicate share", None]
    assert miner.submit(*[param.upper() if at else param for at, param in enumerate(share)])["error"][0] == 22


def test_every_reason_to_reject_a_share() -> None:
    stage = SessionStage()
    miner = stage.mining()
    old = miner.share()
    stage.publish(make_work(height=2))
    miner.hear()
    worker, job_id, extranonce2, ntime, nonce = miner.share()
    assert [
        miner.submit(*params)["error"]
        for params in (
            old,
            ("acme.c01.u2", job_id, extranonce2, ntime, nonce),
            (worker, "999", extranonce2, ntime, nonce),
            (worker, job_id, extranonce2[2:], ntime, nonce),
            (worker, job_id, extranonce2, f"{NTIME - 601:08x}", nonce),
            (worker, job_id, extranonce2, f"{NTIME + 7_201:08x}", nonce),
            (worker, job_id, extranonce2, ntime, nonce, "40000000"),
            miner.share(hit=False),
        )
    ] == [
        [21, "Stale share", None],
        [24, "Unauthorized worker", None],
        [21, "Job not found", None],
        [20, "Malformed share", None],
        [20, "ntime out of range", None],
        [20, "ntime out of range", None],
        [20, "Version bits outside the mask", None],
        [23, "Low difficulty share", None],
    ]


def test_without_work_a_miner_waits_and_gets_difficulty_with_the_first_job() -> None:
    stage = SessionStage()
    stage.channel.current = None
    miner = stage.connect()
    assert words(miner.ask(*SUBSCRIBE) + miner.ask(*AUTHORIZE)) == "result result"
    miner.ask("mining.suggest_difficulty", miner_start := 2.0**-26)
    stage.advance(300)
    assert words(miner.hear()) == ""
    stage.publish(make_work())
    assert words(miner.hear()) == "set_difficulty notify"
    stage.advance(8)
    assert words(miner.hear()) == "", "a wait for work is no silence of the machine"
    assert miner.difficulty == miner_start
    assert miner.job[8] is True
    assert miner.mine()["result"] is True


def test_new_work_on_the_same_block_keeps_old_jobs_and_new_blocks_do_not() -> None:
    stage = SessionStage()
    miner = stage.mining()
    first = miner.job
    stage.publish(make_work(refresh=1))
    assert words(miner.hear()) == "notify"
    assert (first[8], miner.job[8]) == (True, False)
    assert miner.mine(job=first)["result"] is True
    assert miner.mine()["result"] is True
    stage.publish(make_work(height=2))
    assert miner.hear()[0]["params"][8] is True
    assert miner.mine(job=first)["error"][0] == 21


@pytest.mark.parametrize(
    "session_id", ["00000000", "ffffffff", "zzzzzzzz", "0", "00" * 99, 7, None, "00 00 00"]
)
def test_a_session_id_that_is_in_use_or_unknown_gives_a_new_one(session_id: object) -> None:
    stage = SessionStage()
    first = stage.mining()
    second = stage.connect()
    assert words(second.ask("mining.subscribe", "test/1", session_id)) == "result"
    assert (first.extranonce1.hex(), second.extranonce1.hex()) == ("00000000", "00000001")


def test_a_second_subscribe_keeps_the_extranonce_and_brings_a_clean_job() -> None:
    stage = SessionStage()
    miner = stage.mining()
    extranonce1 = miner.extranonce1
    assert miner.ask("mining.subscribe", "test/1", None, "pool", 3333)[0]["result"][1] == extranonce1.hex()
    stage.serve_waiting()
    heard = miner.hear()
    assert words(heard) == "set_difficulty notify"
    assert heard[1]["params"][8] is True
    assert miner.mine()["result"] is True


# Workers


def test_several_workers_on_one_connection() -> None:
    stage = SessionStage()
    miner = stage.mining("acme.c01.u1")
    assert words(miner.ask("mining.authorize", "acme.c01.u2", "")) == "result"
    assert words(miner.ask("mining.authorize", "acme.c01.u3")) == "result"
    for worker in ("acme.c01.u3", "acme.c01.u1", "acme.c01.u2"):
        assert miner.submit(worker, *miner.share()[1:])["result"] is True
    assert miner.submit("acme.c01.u4", *miner.share()[1:])["error"][0] == 24


def test_some_miners_send_percent_escapes_and_say_the_same_in_submits() -> None:
    stage = SessionStage()
    miner = stage.mining("acme%2Ec01%2Eu1")
    assert miner.mine()["result"] is True
    assert stage.admission.numbers == {"acme.c01.u1": 1}


def test_the_same_worker_may_be_authorised_for_ever_and_different_ones_64_times() -> None:
    miner = SessionStage().mining("acme.c01.u0")
    for _ in range(100):
        assert words(miner.ask("mining.authorize", "acme.c01.u0", "x")) == "result"
    for number in range(1, 64):
        assert words(miner.ask("mining.authorize", f"acme.c01.u{number}", "x")) == "result"
    for number in range(64, 80):
        heard = miner.ask("mining.authorize", f"acme.c01.u{number}", "x")
        assert heard[0]["error"] == [24, "At most 64 workers on one connection", None]
    assert miner.session.closing is None, "the other 64 go on mining"
    assert miner.mine()["result"] is True


def test_refused_ten_times_and_authorised_never_the_connection_ends() -> None:
    miner = SessionStage().connect()
    for _ in range(9):
        assert words(miner.ask("mining.authorize", "nobody.c01.u1", "x")) == "24"
    assert miner.session.closing is None
    assert words(miner.ask("mining.authorize", "nobody.c01.u1", "x")) == "24"
    assert miner.session.closing == "refused too often"


def test_the_gate_is_told_the_agent() -> None:
    stage = SessionStage()
    miner = stage.connect()
    miner.ask("mining.subscribe", "Antminer S19 Pro/49.0.1")
    miner.ask(*AUTHORIZE)
    assert stage.admission.agents == ["Antminer S19 Pro/49.0.1"]


@pytest.mark.parametrize("agent", [7, None, "", "a\u0000b", "x" * 256, "line\nfeed", ["cgminer"], {}])
def test_an_agent_that_cannot_be_used_is_no_reason_to_refuse(agent: object) -> None:
    stage = SessionStage()
    miner = stage.connect()
    assert words(miner.ask("mining.subscribe", agent)) == "result"
    miner.ask(*AUTHORIZE)
    assert stage.admission.agents == [""]


def test_extranonce_exhausted_refuses_in_words_and_leaves_the_others_alone() -> None:
    stage = SessionStage(extranonce1_size=1)
    miners = [stage.mining(f"acme.c01.u{number}") for number in range(256)]
    late = stage.connect()
    heard = late.ask(*SUBSCRIBE)
    assert heard[0]["error"] == [20, "Pool is full: no extranonce left", None]
    assert late.session.closing == "extranonce space exhausted"
    late.leave()
    assert {miner.mine()["result"] for miner in miners} == {True}


def test_a_session_gives_everything_back() -> None:
    stage = SessionStage()
    miner = stage.mining()
    miner.ask("mining.suggest_difficulty", 2.0**-24)
    miner.leave()
    assert not stage.channel.sessions
    assert not stage.channel.waiting
    assert len(stage.channel.extranonces) == 0
    with pytest.raises(IndexError):
        stage.engine.counters(miner.session.slot)
    SessionStage().connect().leave()  # also one that never said anything


# What a miner gets wrong


BAD_LINES = [
    b"not json",
    b"[]",
    b"null",
    b"7",
    b'{"id":1,"method":"mining.ping"',
    b'{"id":1,"method":"mining.ping"}}',
    b'{"id":1,"method":7}',
    b'{"id":NaN,"method":"mining.ping"}',
    b'{"id":1,"method":"mining.suggest_difficulty","params":[NaN]}',
    b'{"id":1,"method":"mining.suggest_difficulty","params":[1e400]}',
    b'{"id":1,"method":"mining.suggest_difficulty","params":[%b]}' % (b"9" * 5000),
    b'{"id":1,"method":"mining.authorize","params":["\\ud800"]}',
    b'{"id":"\\udc00","method":"mining.ping"}',
    b'{"id":1,"method":"mining.authorize","params":["\xff"]}',
    b'{"id":"\xff","method":"mining.ping"}',
    b'{"id":1,"method":"mining.ping"}\x00',
    b"\x00",
    b"\xef\xbb\xbf{}",
    b"[" * 8000,
    b'{"id":%b%b,"method":"mining.ping"}' % (b"[" * 4000, b"]" * 4000),
    b'{"id":1,"method":"mining.ping","params":%b%b}' % (b'{"a":' * 1200, b"0" + b"}" * 1200),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS on the plaintext port
    b"GET / HTTP/1.1",
]


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: repr(line[:40]))
def test_a_malformed_line_gets_an_error_and_the_connection_goes_on(line: bytes) -> None:
    miner = SessionStage().mining()
    assert miner.say(line + b"\r\n") == [{"id": None, "result": None, "error": [20, "Malformed JSON", None]}]
    assert miner.session.closing is None
    assert miner.mine()["result"] is True


def test_ten_malformed_lines_are_abuse() -> None:
    miner = SessionStage().connect()
    for _ in range(9):
        miner.say(b"not json\n")
    assert miner.session.closing is None
    miner.say(b"not json\n")
    assert miner.session.closing == "malformed lines"


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":1,"id":2,"method":"mining.pong","method":"mining.ping"}',  # the last key counts
        b'{"id":2,"method":"mining.ping","params":{}}',
        b'{"id":2,"method":"mining.ping","params":null}',
        b'{"id":2,"method":"mining.ping","params":"x"}',
        b'{"id":2,"jsonrpc":"2.0","method":"mining.ping","extra":[1]}',
        b' \t{ "id" : 2 , "method" : "mining.ping" , "params" : [ ] } \r',
    ],
)
def test_odd_but_clear_lines_are_answered_under_their_id(line: bytes) -> None:
    heard = SessionStage().connect().say(line + b"\n")
    assert [message["id"] for message in heard] == [2]


@pytest.mark.parametrize(
    "line", [b"{}", b'{"id":1}', b'{"id":9,"result":true,"error":null}', b"", b"   ", b"\r"]
)
def test_answers_that_nobody_asked_for_are_silently_taken(line: bytes) -> None:
    assert SessionStage().connect().say(line + b"\n") == []


def test_two_hundred_sessions_do_not_disturb_each_other() -> None:
    stage = SessionStage()
    miners = [stage.mining(f"acme.c01.u{number}") for number in range(200)]
    assert len({miner.extranonce1 for miner in miners}) == 200
    for miner, _ in itertools.product(miners, range(5)):
        miner.say(encode("s", "mining.submit", *miner.share()))
    stage.judge()
    for miner in miners:
        assert [message["result"] for message in miner.hear()] == [True] * 5
