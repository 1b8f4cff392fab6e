"""Simulated machines against a server that is played here: what they say, what they make of what they hear,
and that their shares are real.
"""

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from pool.swarm.profiles import PROFILES
from tests.stages.stratum_server import (
    DIFFICULTY,
    NTIME,
    Connection,
    Hall,
    StratumServer,
    hash_of,
    meets,
)

CONFIGURE, SUBSCRIBE, AUTHORIZE = "mining.configure", "mining.subscribe", "mining.authorize"
EXTRANONCES, SUGGEST = "mining.extranonce.subscribe", "mining.suggest_difficulty"


@pytest.fixture
def server() -> Iterator[StratumServer]:
    server = StratumServer()
    yield server
    server.close()


@pytest.mark.parametrize(
    ("profile", "order"),
    [
        ("antminer", [SUBSCRIBE, AUTHORIZE, CONFIGURE]),
        ("whatsminer", [CONFIGURE, SUBSCRIBE, AUTHORIZE]),
        ("avalon", [CONFIGURE, SUBSCRIBE, AUTHORIZE]),
        ("braiins", [CONFIGURE, SUBSCRIBE, AUTHORIZE, EXTRANONCES]),
        ("luxos", [SUBSCRIBE, CONFIGURE, EXTRANONCES, AUTHORIZE]),
        ("vnish", [CONFIGURE, SUBSCRIBE, AUTHORIZE, EXTRANONCES]),
        ("bitaxe", [CONFIGURE, SUBSCRIBE, AUTHORIZE, SUGGEST, EXTRANONCES]),
        ("cpuminer", [SUBSCRIBE, AUTHORIZE]),
        ("rental", [SUBSCRIBE, EXTRANONCES, AUTHORIZE]),
    ],
)
def test_each_vendors_machine_says_its_requests_in_its_order_and_finds_real_shares(
    server: StratumServer, profile: str, order: list[str]
) -> None:
    judged = []

    def judge(connection: Connection, params: list[str]) -> None:
        judged.append(meets(hash_of(connection, params), DIFFICULTY))

    server.judge = judge
    hall = Hall(server, profiles=(profile,))
    connection = hall.begin()
    hall.swarm.submitting(True)
    hall.until(lambda: len(judged) >= 20)
    assert connection.methods()[: len(order)] == order
    assert all(judged)
    submits = connection.submits()
    assert len({tuple(it) for it in submits}) == len(submits)
    assert {it[0] for it in submits} == {"acme.c01.r01s01"}
    six = profile not in ("cpuminer",)
    assert len(submits[-1]) == (6 if six else 5)


def test_all_profiles_are_looked_at() -> None:
    assert len(PROFILES) == 9


def test_whoever_rolls_rolls(server: StratumServer) -> None:
    hall = Hall(server, profiles=("vnish",), containers=1, units=8)
    hall.begin()
    hall.swarm.submitting(True)
    hall.until(lambda: all(it.submits() for it in server.connections) and len(server.connections) == 8)
    assert len({it.submits()[0][5] for it in server.connections}) > 4


def test_what_is_accepted_and_what_is_not_is_counted_by_code_with_the_servers_words(
    server: StratumServer,
) -> None:
    answers: Iterator[Any] = iter([None, [23, "Above target", None], None, [-7, "?\x1b[2J"], "no", None])
    server.judge = lambda connection, params: next(answers, None)
    hall = Hall(server)
    hall.begin()
    hall.swarm.submitting(True)
    hall.until(lambda: hall.swarm.snapshot()["submitted"] >= 7)
    counted = hall.swarm.snapshot()
    good = counted["verdicts"]["good"]
    assert (good["23"], good["-7"], good["0"]) == (1, 1, 1)
    assert good["accepted"] >= 3
    assert "Above target" in counted["words"]["23"]


def test_where_a_server_has_no_codes_its_words_are_the_verdict_and_none_of_them_is_acceptance(
    server: StratumServer,
) -> None:
    words = iter(["Above target", "accepted"])
    server.rejects = lambda: next(words, "Above target")
    hall = Hall(server)
    hall.begin()
    hall.swarm.submitting(True)
    hall.until(lambda: hall.swarm.snapshot()["submitted"] >= 4)
    good = hall.swarm.snapshot()["verdicts"]["good"]
    assert set(good) == {"Above target", "other"}
    assert good["other"] == 1


def test_bad_shares_do_not_wait_behind_real_ones_that_are_too_dear(server: StratumServer) -> None:
    hall = Hall(server, closed_loop=False, shares_per_s=500.0, hashing=0.01, bad=0.5)
    connection = hall.begin()
    connection.say("mining.set_difficulty", 1)
    server.job(connection, "2")
    hall.until(lambda: hall.swarm.snapshot()["notifies"] >= 2)
    hall.swarm.submitting(True)
    hall.until(lambda: hall.swarm.snapshot()["submitted"] > 50)
    assert "good" not in hall.swarm.snapshot()["verdicts"]


def test_bad_shares_are_bad_in_every_way_and_late_ones_are_of_the_job_before(server: StratumServer) -> None:
    heard: list[tuple[str, ...]] = []

    def judge(connection: Connection, params: list[str]) -> list[Any] | None:
        share = tuple(params)
        wrong = None
        if share[1] not in ("1", "2"):
            wrong = [21, "unknown", None]
        elif share in heard:
            wrong = [22, "duplicate", None]
        elif int(share[3], 16) != NTIME:
            wrong = [20, "time", None]
        elif not meets(hash_of(connection, params), DIFFICULTY):
            wrong = [23, "low", None]
        elif share[1] == "1" and moved:
            wrong = [29, "late", None]
        heard.append(share)
        return wrong

    moved: list[bool] = []
    server.judge = judge
    hall = Hall(server, bad=0.5, late=0.3)
    connection = hall.begin()
    moved.append(True)
    server.job(connection, "2")
    hall.until(lambda: hall.swarm.snapshot()["notifies"] >= 2)
    hall.swarm.measure()
    hall.swarm.submitting(True)
    kinds = {"good", "late", "duplicate", "low difficulty", "unknown job", "wrong time"}
    hall.until(lambda: hall.swarm.snapshot()["submitted"] > 200)
    verdicts = hall.swarm.snapshot()["verdicts"]
    assert set(verdicts) == kinds
    assert set(verdicts["good"]) == {"accepted"}
    for kind, code in (
        ("late", 29),
        ("unknown job", 21),
        ("wrong time", 20),
        ("low difficulty", 23),
        ("duplicate", 22),
    ):
        assert set(verdicts[kind]) == {str(code)}, kind


@pytest.mark.parametrize(("profile", "at_once"), [("antminer", False), ("bitaxe", True)])
def test_a_difficulty_holds_from_the_next_job_on_or_at_once_as_firmware_has_it(
    server: StratumServer, profile: str, at_once: bool
) -> None:
    harder = DIFFICULTY * 2**6
    hall = Hall(server, profiles=(profile,))
    connection = hall.begin()
    connection.say("mining.set_difficulty", harder)
    hall.until(lambda: hall.swarm.snapshot()["difficulty_most"] == harder)
    hall.swarm.submitting(True)
    hall.until(lambda: len(connection.submits()) >= 12)
    assert all(meets(hash_of(connection, it), harder) for it in connection.submits()) == at_once
    server.job(connection, "2")
    hall.until(lambda: len([it for it in connection.submits() if it[1] == "2"]) >= 6)
    assert all(meets(hash_of(connection, it), harder) for it in connection.submits() if it[1] == "2")


def test_extranonces_hold_from_the_next_job_on(server: StratumServer) -> None:
    hall = Hall(server, profiles=("braiins",))
    connection = hall.begin()
    connection.say("mining.set_extranonce", "deadbeef", 6)
    server.job(connection, "2")
    hall.until(lambda: hall.swarm.snapshot()["notifies"] >= 2)
    hall.swarm.submitting(True)
    hall.until(lambda: len(connection.submits()) >= 8)
    for params in connection.submits():
        assert len(params[2]) == 12
        assert meets(hash_of(connection, params, "deadbeef"), DIFFICULTY)


def test_whoever_is_asked_to_reconnect_comes_back_to_where_it_was_sent_first_or_stays(
    server: StratumServer,
) -> None:
    hall = Hall(server, profiles=("antminer", "bitaxe"), containers=2)
    hall.begin()
    hall.until(lambda: hall.swarm.mining() == 2)
    for connection in list(server.connections):
        connection.say("client.reconnect", "elsewhere.example", "3333", 0)
    hall.until(lambda: len(server.connections) == 3 and hall.swarm.mining() == 2)
    counted = hall.swarm.snapshot()
    assert (counted["reconnects_asked"], counted["reconnects_elsewhere"]) == (2, 2)
    assert counted["lost"] == {"asked to reconnect": 1}


@pytest.mark.parametrize(
    ("profile", "answer"),
    [
        ("antminer", {"id": 7, "result": "pong", "error": None}),
        ("bitaxe", {"id": 7, "method": "pong", "params": []}),
    ],
)
def test_a_ping_is_answered_as_firmware_does(
    server: StratumServer, profile: str, answer: dict[str, Any]
) -> None:
    hall = Hall(server, profiles=(profile,))
    connection = hall.begin()
    hall.until(lambda: len(connection.lines) == len(PROFILES[profile].requests))
    connection.write({"id": 7, "method": "mining.ping", "params": []})
    connection.write({"id": 8, "method": "client.get_version", "params": []})
    hall.until(lambda: len(connection.lines) == len(PROFILES[profile].requests) + 2)
    assert connection.lines[-2:] == [
        answer,
        {"id": 8, "result": PROFILES[profile].agent, "error": None},
    ]


def test_a_power_cut_is_silent_and_who_comes_back_knows_nothing_of_its_connection(
    server: StratumServer,
) -> None:
    hall = Hall(server, containers=2)
    hall.begin()
    hall.until(lambda: hall.swarm.mining() == 2)
    hall.swarm.submitting(True)
    hall.until(lambda: all(it.submits() for it in server.connections))
    hall.swarm.cut(1)
    (cut,) = (it for it in server.connections if it.submits()[0][0] == "acme.c02.r01s01")
    (other,) = (it for it in server.connections if it is not cut)
    server.step()  # what was on its way
    said = (len(cut.lines), len(other.lines))
    hall.until(lambda: len(other.lines) > said[1] + 20)
    assert (cut.end, len(cut.lines), hall.swarm.mining()) == (None, said[0], 1)
    hall.swarm.restore(1)
    hall.until(lambda: hall.swarm.mining() == 2 and cut.end)
    assert (cut.end, len(server.connections)) == ("reset", 3)


def test_a_slow_reader_hardly_reads_and_is_measured_apart(server: StratumServer) -> None:
    hall = Hall(server, slow_readers=1.0)
    connection = hall.begin()
    hall.swarm.submitting(True)
    hall.until(lambda: hall.swarm.snapshot()["slow_latency"])
    assert not hall.swarm.snapshot()["latency"]
    full = False
    while not full:
        hall.swarm.run(0.001)
        try:
            connection.raw(b'{"id":null,"method":"client.show_message","params":["' + b"x" * 4_000 + b'"]}\n')
        except BlockingIOError:
            full = True


def test_a_new_block_is_measured_from_the_first_machine_to_the_last(server: StratumServer) -> None:
    hall = Hall(server, units=3)
    hall.begin()
    hall.until(lambda: hall.swarm.mining() == 3)
    hall.swarm.measure()
    for _ in range(2):
        for connection in server.connections:
            server.job(connection, "2", prevhash="ff" * 32)  # once more it is no new block
    hall.until(lambda: hall.swarm.snapshot()["notifies"] == 6)
    counted = hall.swarm.snapshot()
    assert [reached for _, reached in counted["blocks"]] == [3]
    assert sum(count for _, count in counted["block_delays"]) == 3
    assert sum(count for _, count in counted["first_job"]) == 3  # of all the run


def test_what_takes_too_many_hashes_is_not_submitted_and_is_told(server: StratumServer) -> None:
    hall = Hall(server, closed_loop=False, shares_per_s=1_000.0, hashing=0.01)
    connection = hall.begin()
    connection.say("mining.set_difficulty", 1)
    server.job(connection, "2")
    hall.until(lambda: hall.swarm.snapshot()["notifies"] >= 2)
    hall.swarm.submitting(True)
    hall.until(lambda: hall.swarm.snapshot()["too_dear"] > 20)
    counted = hall.swarm.snapshot()
    assert counted["submitted"] == 0
    assert counted["hashes"] > 0
    assert counted["due"] == counted["too_dear"] + counted["searching"]


def test_at_a_hashrate_there_are_as_many_shares_as_it_finds(server: StratumServer) -> None:
    hashes_a_share = DIFFICULTY * 2**32
    hall = Hall(server, closed_loop=False, hashrate_hps=500 * hashes_a_share)
    hall.begin()
    hall.swarm.submitting(True)
    hall.until(lambda: hall.swarm.snapshot()["submitted"] > 200)
    counted = hall.swarm.snapshot()
    assert counted["hashes"] / counted["submitted"] == pytest.approx(hashes_a_share, rel=0.4)


def test_sixteen_shares_wait_for_their_answers_and_no_more(server: StratumServer) -> None:
    hall = Hall(server, closed_loop=False, shares_per_s=5_000.0)
    hall.begin()
    server.silent = True
    hall.swarm.submitting(True)
    hall.until(lambda: hall.swarm.snapshot()["busy"] > 50)
    assert hall.swarm.snapshot()["in_flight"] == 16


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b'{"method":"mining.notify","params":["1"]}', "a job of too few parameters"),
        (b'{"method":"mining.set_difficulty","params":[-1]}', "a difficulty that no machine understands"),
        (b'{"method":"mining.set_difficulty","params":[1e999]}', "a difficulty that no machine understands"),
        (b'{"method":"mining.set_extranonce","params":["",9]}', "extranonces that no machine takes"),
        (b"x" * 300_000, "a line without end"),
        (b"no json\n" * 10, "lines that are no JSON"),
        (b'{"id":1,"method":"mining.ping"}\n' * 3_000, "the server does not read"),
    ],
)
def test_a_server_that_says_what_no_machine_takes_is_left(
    server: StratumServer, said: bytes, reason: str
) -> None:
    hall = Hall(server)
    connection = hall.begin()
    rest = said + b"\n"

    def told() -> dict[str, int]:
        nonlocal rest
        if connection.end is None and rest:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                rest = rest[connection.sock.send(rest) :]
        lost: dict[str, int] = hall.swarm.snapshot()["lost"]
        return lost

    hall.until(lambda: reason in told())


def test_a_refusal_is_told_in_the_servers_words_whatever_bytes_they_are(server: StratumServer) -> None:
    server.refuses = b'{"id":2,"result":null,"error":[24,"\xff\x1b who?",null]}\n'
    hall = Hall(server)
    hall.swarm.restore()
    hall.until(lambda: hall.swarm.snapshot()["lost"])
    (reason,) = hall.swarm.snapshot()["lost"]
    assert reason == 'authorize refused: [24,"\ufffd\x1b who?",null]'


def test_over_tls(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("pool.example").configure_cert(context)
    server = StratumServer(context)
    hall = Hall(server, tls=True, units=3)
    hall.begin()
    hall.until(lambda: hall.swarm.mining() == 3)
    hall.swarm.submitting(True)
    hall.until(lambda: all(len(it.submits()) > 5 for it in server.connections))
    assert set(hall.swarm.snapshot()["verdicts"]["good"]) == {"accepted"}
    server.close()


def test_where_nobody_listens_that_is_told(server: StratumServer) -> None:
    server.listener.close()
    hall = Hall(server)
    hall.swarm.restore()
    while not hall.swarm.snapshot()["lost"]:
        hall.swarm.run(0.001)
    assert hall.swarm.snapshot()["lost"] == {"Connection refused": 1}


def test_whoever_was_refused_comes_again_later_and_later(server: StratumServer) -> None:
    server.refuses = b'{"id":2,"result":false,"error":null}\n'
    hall = Hall(server)
    hall.swarm.restore()
    hall.until(lambda: hall.swarm.snapshot()["lost"])
    server.refuses = None
    hall.until(lambda: hall.swarm.mining() == 1)
    assert len(server.connections) == 2
