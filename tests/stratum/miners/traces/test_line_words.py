"""Lines in words, for a person who looks at them as they pass."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum import messages
from stratum.miners.traces.line_words import REMEMBERED_MAX, LineWords

NOTIFY = messages.notify("5f", ["00" * 32, "01", "02", [], "20000000", "1d00ffff", "65000000"], clean=True)
SUBMIT = b'{"id":4,"method":"mining.submit","params":["acme.c01.u1","5f","00000001","65000001","0badcafe"]}'


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"id":1,"method":"mining.subscribe","params":["cgminer/4.12"]}', "is cgminer/4.12"),
        (b'{"id":1,"method":"mining.subscribe","params":["a","0af1"]}', "is a, was here before"),
        (b'{"id":1,"method":"mining.subscribe","params":[]}', "is nameless"),
        (b'{"id":2,"method":"mining.authorize","params":["acme.c01.u1","x"]}', "mines as acme.c01.u1"),
        (
            b'{"id":2,"method":"mining.authorize","params":["a.b.c","d=65536,md=3000"]}',
            "mines as a.b.c, wants difficulty 64k, difficulty at least 3000",
        ),
        (
            b'{"id":3,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}',
            "wants version-rolling, can roll version bits 1fffe000",
        ),
        (b'{"id":3,"method":"mining.extranonce.subscribe","params":[]}', "takes other extranonces"),
        (b'{"id":3,"method":"mining.suggest_difficulty","params":[0.25]}', "wants difficulty 1/4"),
        (SUBMIT, "a share of job 5f, which it was not given while lines were kept"),
        (b'{"id":9,"method":"mining.hashrate","params":[]}', "Method not supported"),
        (b'{"id":9,"result":true,"error":null}', "answers nothing that was asked"),
        (b"GET / HTTP/1.1", "no message: "),
    ],
)
def test_what_a_miner_says(line: bytes, words: str) -> None:
    assert words in LineWords().heard(line, 0.0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (NOTIFY, "job 5f, and what was before is worth nothing"),
        (
            b'{"id":null,"method":"mining.set_difficulty","params":[65536]}',
            "difficulty 64k from the next job on",
        ),
        (
            b'{"id":null,"method":"mining.set_extranonce","params":["0af1",4]}',
            "extranonce1 0af1 from the next job on, 4 bytes are the miner's",
        ),
        (b'{"id":null,"method":"client.reconnect","params":[]}', "is to come back"),
    ],
)
def test_what_the_pool_says(line: bytes, words: str) -> None:
    assert LineWords().said(line.strip(), 0.0) == words


def test_a_share_is_told_by_its_job_and_an_answer_by_what_it_answers() -> None:
    words = LineWords()
    words.said(NOTIFY.strip(), 100.0)
    assert words.heard(SUBMIT, 102.5) == "a share of job 5f, 2.5 s old"
    assert words.said(b'{"id":4,"result":true,"error":null}', 102.512) == "accepts mining.submit, after 12 ms"
    words.heard(SUBMIT, 103.0)
    refused = words.said(messages.refusal(b"4", 22, "Duplicate share").strip(), 103.0)
    assert refused == "refuses mining.submit, after 0 ms: 22 Duplicate share"
    words.said(b'{"id":17,"method":"mining.ping","params":[]}', 104.0)
    assert words.heard(b'{"id":17,"result":"pong","error":null}', 104.0) == "answers mining.ping"


def test_of_questions_that_nobody_answers_so_many_are_remembered() -> None:
    words = LineWords()
    for number in range(REMEMBERED_MAX + 1):
        words.heard(b'{"id":%d,"method":"mining.ping","params":[]}' % number, 0.0)
    assert "nothing that was asked" in words.said(b'{"id":0,"result":"pong","error":null}', 0.0)
    assert "accepts mining.ping" in words.said(b'{"id":1,"result":"pong","error":null}', 0.0)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
_METHODS = [
    "mining.subscribe",
    "mining.authorize",
    "mining.configure",
    "mining.submit",
    "mining.suggest_difficulty",
]
_METHODS += ["mining.notify", "mining.set_difficulty", "mining.set_extranonce", "client.reconnect", "x"]


@pytest.mark.simulation
@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(_METHODS), _JSON, st.binary(max_size=40))
def test_a_line_may_be_anything(method: str, params: object, noise: bytes) -> None:
    words = LineWords()
    for line in (noise, messages.notification(method, [params] * 9), messages.notification(method, params)):  # type: ignore[arg-type]
        assert isinstance(words.heard(line, 0.0), str)
        assert isinstance(words.said(line, 0.0), str)
