"""How the engine cuts packets into lines, hands lines to Python in their order, and knows names."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum._engine import LineTooLong
from stratum.tallies import Verdict
from tests.stages.engine import Mine, Miner, submit_line, submit_params, work

ACCEPTED = Verdict.ACCEPTED


def _miner(**options: Any) -> tuple[Mine, Miner]:
    mine = Mine(**options)
    mine.publish(work())
    return mine, mine.join()


def test_a_submit_may_come_one_byte_at_a_time() -> None:
    mine, miner = _miner()
    for byte in submit_line():
        assert mine.engine.queued() == 0
        assert miner.say(bytes([byte])) == []
    assert mine.judge() == [ACCEPTED]


def test_several_lines_may_come_in_one_packet_and_blank_ones_mean_nothing() -> None:
    mine, miner = _miner()
    packet = b"\n\r\n \t\r\n" + b"".join(submit_line(id=n, nonce=n) for n in range(3)) + b"\n\r\n"
    assert miner.say(packet) == []
    assert mine.judge() == [ACCEPTED] * 3
    assert [json.loads(answer)["id"] for answer in miner.answers] == [0, 1, 2]


@pytest.mark.parametrize("data", [bytes, bytearray, memoryview])
def test_any_buffer_can_be_fed(data: Any) -> None:
    mine, miner = _miner()
    assert mine.engine.feed(miner.session, data(submit_line())) is None
    assert mine.engine.feed(miner.session, data(b"")) is None
    assert mine.judge() == [ACCEPTED]


@given(seed=st.integers(0, 2**64 - 1))
@settings(deadline=None, max_examples=60)
def test_order_is_kept_however_the_bytes_are_cut(seed: int) -> None:
    """Between two lines for Python, exactly the submits that came between them are queued."""
    random = Random(seed)
    mine, miner = _miner()
    stream, expected, submits = b"", [], 0
    for n in range(random.randint(1, 30)):
        if random.random() < 0.5:
            stream += submit_line(id=n, nonce=n)
            submits += 1
        else:
            line = b'{"id":%d,"method":"mining.ping"}' % n
            stream += line + random.choice([b"\n", b"\n\n", b"\n \r\n"])
            expected.append((line, submits))
    seen = []
    while stream:
        cut = random.choice([1, 7, 100, 1000])
        packet, stream = stream[:cut], stream[cut:]
        handed_back = mine.engine.feed(miner.session, packet)
        while handed_back is not None:
            seen.append((handed_back, mine.engine.queued()))
            handed_back = mine.engine.feed(miner.session, b"")
    assert seen == expected
    assert mine.judge() == [ACCEPTED] * submits


def test_bytes_may_follow_while_a_line_is_in_pythons_hands() -> None:
    mine, miner = _miner()
    assert mine.engine.feed(miner.session, b"one\ntwo\nthr") == b"one"
    assert mine.engine.feed(miner.session, b"ee\n" + submit_line()) == b"two"
    assert mine.engine.feed(miner.session, b"four\nfi") == b"three"
    assert mine.engine.queued() == 0
    assert mine.engine.feed(miner.session, b"") == b"four"
    assert mine.engine.queued() == 1
    assert mine.engine.feed(miner.session, b"") is None
    assert mine.engine.feed(miner.session, b"ve\n") == b"five"


@pytest.mark.parametrize("cut", [1, 10, 1000])
def test_a_line_has_a_limit_however_the_bytes_are_cut(cut: int) -> None:
    miner = _miner(line_bytes_max=40)[1]
    assert miner.say(b"x" * 40 + b"\n") == [b"x" * 40]
    stream = b"y" * 40 + b"\n" + b"z" * 41
    packets = [stream[at : at + cut] for at in range(0, len(stream), cut)]
    lines = []
    with pytest.raises(LineTooLong):  # noqa: PT012 - which packet it is depends on the cut
        for packet in packets:
            line = miner.engine.feed(miner.session, packet)
            while line is not None:
                lines.append(line)
                line = miner.engine.feed(miner.session, b"")
    assert lines == [b"y" * 40]


def test_what_came_before_a_line_that_is_too_long_is_judged() -> None:
    mine, miner = _miner(line_bytes_max=200)
    with pytest.raises(LineTooLong):
        miner.say(submit_line() + b"x" * 300)
    assert mine.judge() == [ACCEPTED]


def test_a_line_without_end_is_refused_at_the_limit() -> None:
    miner = _miner()[1]
    for _ in range(8):
        assert miner.say(b"[" * 1024) == []
    with pytest.raises(LineTooLong):
        miner.say(b"[")


# Names


LONG = "acme." + "c" * 60 + ".r01"  # 69 bytes


@pytest.mark.parametrize(
    ("authorised", "submitted", "worker"),
    [
        ((LONG,), LONG, 5),
        ((LONG,), LONG[:63], 5),
        ((LONG,), LONG[:62], None),
        ((LONG,), LONG[:64], None),
        ((LONG, LONG[:63]), LONG[:63], 6),  # a name in full goes before a name cut off
        ((LONG, LONG + "b"), LONG[:63], None),  # either could be meant
        ((LONG, LONG + "b"), LONG + "b", 6),
        (("acme.%20c01", "acme. c01"), "acme.%20c01", 5),
        (("ä" * 63,), "ä" * 63, 5),
    ],
)
def test_a_name_cut_at_63_bytes_is_known(
    authorised: tuple[str, ...], submitted: str, worker: int | None
) -> None:
    mine = Mine()
    mine.publish(work())
    miner = mine.join(names=authorised)
    message = {"id": 4, "method": "mining.submit", "params": submit_params(worker=submitted)}
    assert miner.say(json.dumps(message, ensure_ascii=False).encode() + b"\n") == []
    assert mine.judge() == [Verdict.UNAUTHORISED if worker is None else ACCEPTED]
    assert [tally.worker for tally in mine.tallies()] == ([] if worker is None else [worker])


def test_a_name_cut_within_a_character_is_known() -> None:
    mine = Mine()
    mine.publish(work())
    miner = mine.join(names=("ä" * 40,))
    cut = ("ä" * 40).encode()[:63]
    line = submit_line(worker="NAME").replace(b"NAME", cut)
    assert miner.say(line) == []
    assert mine.judge() == [ACCEPTED]
