"""What a hostile upstream can do, whatever bytes it sends: be dropped, for a reason that can be read."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum.upstream.events import (
    JobReceived,
)
from stratum.upstream.messages import TARGET_MAX, BrokenUpstream
from stratum.upstream.session import (
    LINE_BYTES_MAX,
    OUT_BYTES_MAX,
)
from stratum.upstream.shares import (
    SubmitAnswer,
)
from tests.fakes.upstream_lines import (
    AUTHORISED,
    CONFIGURED,
    SUBSCRIBED,
    call,
    events_of,
    mining_session,
    new_session,
    notify,
    share_of,
    tell,
)


def test_a_line_without_an_end_is_cut_off() -> None:
    session = mining_session()
    session.receive_data(b" " * LINE_BYTES_MAX)
    assert session.next_event() is None
    session.receive_data(b" ")
    with pytest.raises(BrokenUpstream, match="a line of more than"):
        session.next_event()


def test_the_longest_job_that_the_engine_takes_is_taken() -> None:
    session = mining_session()
    message = notify("j2")
    message["params"][2] = "ab" * (65_536 - 4 - 8 - 1)
    message["params"][4] = ["cc" * 32] * 32
    assert [type(event) for event in tell(session, message)] == [JobReceived]
    message["params"][3] += "00"
    with pytest.raises(BrokenUpstream, match="a coinbase of more than 65536 bytes"):
        tell(session, message)


def test_an_upstream_that_asks_and_never_reads() -> None:
    session = mining_session()
    pings = [call("mining.ping", id_="x" * 10_000)] * (OUT_BYTES_MAX // 10_000 + 1)
    with pytest.raises(BrokenUpstream, match="asks much and reads nothing"):
        tell(session, *pings)
    assert len(session.data_to_send()) <= OUT_BYTES_MAX


HOSTILE = [
    b"[]",
    b"nonsense",
    b"\xff\xfe",
    b"\x00",
    b'{"id":NaN}',
    b'{"id":1,"result":1e400}',
    b'{"id":"\\ud800"}',
    b"[" * 100_000,
    b'{"id":' + b"[" * 100_000,
    b'{"method":5}',
    *(
        json.dumps(message).encode()
        for message in (
            call("mining.notify"),
            {"method": "mining.notify", "params": {"job": 1}},
            {"method": "mining.notify", "params": None},
            call("mining.notify", *range(9)),
            call("mining.set_difficulty"),
            call("mining.set_difficulty", 0),
            call("mining.set_difficulty", -1),
            call("mining.set_difficulty", True),
            call("mining.set_difficulty", "much"),
            call("mining.set_difficulty", 10**80),
            call("mining.set_extranonce", "00"),
            call("mining.set_extranonce", "0", 8),
            call("mining.set_extranonce", "00" * 33, 8),
            call("mining.set_extranonce", "00", 3),
            call("mining.set_extranonce", "00", -1),
            call("mining.set_extranonce", "00", 1 << 70),
            call("mining.set_version_mask"),
            call("mining.set_version_mask", 5),
            call("mining.set_version_mask", "1ffffffff"),
        )
    ),
]


@pytest.mark.parametrize("line", HOSTILE)
def test_what_no_miner_understands_is_a_broken_upstream(line: bytes) -> None:
    session = mining_session()
    session.receive_data(line + b"\n")
    with pytest.raises(BrokenUpstream) as broken:
        events_of(session)
    assert len(str(broken.value)) < 300


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, "x" * 256), (0, True), (0, None), (1, "aa" * 31), (1, "zz" * 32), (2, "0"), (2, 7), (3, None),
        (4, ["aa"]), (4, ["aa" * 32] * 33), (4, "aa"), (4, [5]), (5, "200000000"), (5, "+2000000"), (5, 1),
        (6, "00000000"), (6, "1d80ffff"), (6, "ff00ffff"), (6, ""), (7, "0x6553f1"), (7, "6553f10 "),
        (8, "yes"), (8, 2), (8, [True]), (8, {}),
    ],
)  # fmt: skip
def test_a_job_with_one_thing_wrong(at: int, value: Any) -> None:
    message = notify("j2")
    message["params"][at] = value
    with pytest.raises(BrokenUpstream, match=r"mining\.notify"):
        tell(mining_session(), message)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
METHODS = st.sampled_from(
    [
        *("mining.notify", "mining.set_difficulty", "mining.set_extranonce", "mining.set_version_mask"),
        *("client.reconnect", "client.show_message", "client.get_version", "mining.ping", "mining.submit"),
    ]
)
LINES = st.one_of(
    st.builds(lambda m, p, i: {"id": i, "method": m, "params": p}, METHODS, JSON | st.lists(JSON), JSON),
    st.builds(lambda i, r, e: {"id": i, "result": r, "error": e}, st.integers(0, 9), JSON, JSON),
    JSON,
)


@pytest.mark.simulation
@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.lists(LINES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60), max_size=8))
def test_whatever_it_says_it_is_an_event_or_a_broken_upstream(lines: list[bytes]) -> None:
    """And every share comes out once."""
    session = new_session()
    tell(session, CONFIGURED, SUBSCRIBED)
    if len(lines) % 2:
        tell(session, AUTHORISED, notify())
        session.submit(share_of(session, key=b"1"), 0.0)
        session.submit(share_of(session, key=b"2"), 0.0, again=True)
    resolved = []
    session.receive_data(b"\n".join(lines) + b"\n")
    with suppress(BrokenUpstream):
        while (event := session.next_event()) is not None:
            resolved += [event.key] if isinstance(event, SubmitAnswer) else []
    once, twice = session.submits.collect()
    resolved += [share.key for share in (*once, *twice)]
    assert sorted(resolved) == ([b"1", b"2"] if len(lines) % 2 else [])
    assert 0 < session.target <= TARGET_MAX
