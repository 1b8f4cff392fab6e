"""How the engine reads mining.submit: every way in which firmware writes it, and no more."""

import json
from random import Random
from typing import Any

import pytest

from stratum import messages
from stratum.tallies import Verdict
from tests.stages.engine import NTIME, Mine, Miner, submit_line, submit_params, work

NTIME_HEX = f"{NTIME:x}"
ACCEPTED, MALFORMED = Verdict.ACCEPTED, Verdict.MALFORMED


def _miner(**options: Any) -> tuple[Mine, Miner]:
    mine = Mine(**options)
    mine.publish(work())
    return mine, mine.join()


def _raw(params: str, id: str = "4") -> bytes:
    """A submit with its parameters as JSON text."""
    return f'{{"id":{id},"method":"mining.submit","params":{params}}}\n'.encode()


# The id is echoed as it came


@pytest.mark.parametrize(
    "id",
    [
        "0",
        "1",
        "null",
        '"a"',
        '""',
        '"7f"',
        "1.5",
        "-3",
        "1e3",
        "-0.5E+7",
        "true",
        "false",
        "18446744073709551616",
    ],
)
def test_an_id_is_echoed_as_it_came(id: str) -> None:
    mine, miner = _miner()
    assert miner.say(_raw(json.dumps(submit_params()), id)) == []
    assert mine.judge() == [ACCEPTED]
    assert miner.answers == [b'{"id":%b,"result":true,"error":null}' % id.encode()]


def test_a_missing_id_is_answered_with_null() -> None:
    mine, miner = _miner()
    assert miner.say(_raw(json.dumps(submit_params())).replace(b'"id":4,', b"")) == []
    mine.judge()
    assert miner.answers == [b'{"id":null,"result":true,"error":null}']


@pytest.mark.parametrize(
    "id", ['{"a":[1]}', "[1]", '"\\u0041"', '"ä"', "01", "+1", "1.", ".5", "nul", "NaN", '"a']
)
def test_any_other_id_is_left_to_python(id: str) -> None:
    """Nested and escaped ids are echoed from there; the rest is bad JSON."""
    mine, miner = _miner()
    line = _raw(json.dumps(submit_params()), id)
    assert miner.say(line) == [line[:-1]]
    assert mine.engine.queued() == 0


def test_a_submit_from_python_is_judged_like_any_other() -> None:
    mine, miner = _miner()
    params = [param.encode() for param in submit_params(nonce=1)]
    mine.engine.submit(miner.session, b'{"a":[1]}', params)
    miner.submit(nonce=1)
    assert mine.judge() == [ACCEPTED, Verdict.DUPLICATE]
    assert miner.answers[0] == b'{"id":{"a":[1]},"result":true,"error":null}'
    with pytest.raises(ValueError, match="5 or 6"):
        mine.engine.submit(miner.session, b"1", params[:4])
    with pytest.raises(ValueError, match="5 or 6"):
        mine.engine.submit(miner.session, b"1", params + params)
    with pytest.raises(IndexError):
        mine.engine.submit(999, b"1", params)
    assert mine.judge() == []


# Parameters as firmware writes them


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"ntime": NTIME_HEX.upper()}, ACCEPTED),
        ({"ntime": "0x" + NTIME_HEX}, ACCEPTED),
        ({"ntime": "0X" + NTIME_HEX.upper()}, ACCEPTED),
        ({"ntime": "00000000" + NTIME_HEX}, ACCEPTED),
        ({"ntime": "000000000" + NTIME_HEX}, MALFORMED),  # more than 64 bits of digits
        ({"ntime": "1" + NTIME_HEX}, MALFORMED),
        ({"ntime": ""}, MALFORMED),
        ({"ntime": "0x"}, MALFORMED),
        ({"ntime": " " + NTIME_HEX}, MALFORMED),
        ({"ntime": "-" + NTIME_HEX}, MALFORMED),
        ({"ntime": NTIME_HEX + "g"}, MALFORMED),
        ({"nonce": "0"}, ACCEPTED),
        ({"nonce": "ABCDEF"}, ACCEPTED),
        ({"nonce": "0xabcdef"}, ACCEPTED),
        ({"nonce": "100000000"}, MALFORMED),
        ({"nonce": "nonsense"}, MALFORMED),
        ({"job": "01"}, ACCEPTED),
        ({"job": "0x1"}, ACCEPTED),
        ({"job": "0000000000000001"}, ACCEPTED),
        ({"job": "00000000000000001"}, Verdict.JOB_UNKNOWN),
        ({"job": ""}, Verdict.JOB_UNKNOWN),
        ({"job": "job one"}, Verdict.JOB_UNKNOWN),
        ({"extranonce2": "E2E2e2e2"}, ACCEPTED),
        ({"extranonce2": "0xe2e2e2e2"}, ACCEPTED),
        ({"extranonce2": "e2e2e2"}, MALFORMED),
        ({"extranonce2": "e2e2e2e2e2"}, MALFORMED),
        ({"extranonce2": "e2e2e2e"}, MALFORMED),
        ({"extranonce2": "e2e2e2eg"}, MALFORMED),
        ({"extranonce2": ""}, MALFORMED),
        ({"rolled": "0"}, ACCEPTED),
        ({"rolled": "2000"}, ACCEPTED),
        ({"rolled": "0x1fffe000"}, ACCEPTED),
        ({"rolled": "1FFFE000"}, ACCEPTED),
        ({"rolled": ""}, MALFORMED),
        ({"rolled": "120000000"}, MALFORMED),
        ({"rolled": "40000000"}, Verdict.VERSION_OUTSIDE_MASK),
        ({"rolled": "80000000"}, Verdict.VERSION_OUTSIDE_MASK),
        ({"rolled": "c0000000"}, Verdict.VERSION_OUTSIDE_MASK),
        ({"worker": ""}, Verdict.UNAUTHORISED),
        ({"worker": "ACME.C01.R01"}, Verdict.UNAUTHORISED),
    ],
    ids=str,
)
def test_a_parameter_is_read_as_firmware_means_it(changes: dict[str, str], verdict: Verdict) -> None:
    mine, miner = _miner()
    miner.submit(**changes)
    assert mine.judge() == [verdict]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('["acme.c01.r01","1","e2e2e2e2",%d,0]', ACCEPTED),
        ('["acme.c01.r01","1","e2e2e2e2",%d,4294967295]', ACCEPTED),
        ('["acme.c01.r01","1","e2e2e2e2",%d,4294967296]', MALFORMED),
        ('["acme.c01.r01","1","e2e2e2e2",%d,99999999999999999999999]', MALFORMED),
        ('["acme.c01.r01","1","e2e2e2e2",%d,0,8192]', ACCEPTED),
        ('["acme.c01.r01",1,"e2e2e2e2",%d,0]', ACCEPTED),  # the digits of a job id that has no letters
        ('["acme.c01.r01","1",12345678,%d,0]', MALFORMED),  # bytes have no leading zeros to guess
        ('[7,"1","e2e2e2e2",%d,0]', Verdict.UNAUTHORISED),
    ],
)
def test_numbers_are_taken_where_they_are_unambiguous(text: str, verdict: Verdict) -> None:
    mine, miner = _miner()
    assert miner.say(_raw(text % NTIME)) == []
    assert mine.judge() == [verdict]


def test_a_number_means_the_same_as_its_hex() -> None:
    mine, miner = _miner()
    miner.submit(ntime=NTIME_HEX, nonce="1f", rolled="00002000")
    params = json.dumps(["acme.c01.r01", "1", "e2e2e2e2", NTIME, 31, 8192])
    assert miner.say(_raw(params)) == []
    assert mine.judge() == [ACCEPTED, Verdict.DUPLICATE]


def test_hashed_is_the_bytes_not_the_text() -> None:
    """Whatever the case, the zeros and the prefix: one share."""
    mine, miner = _miner()
    miner.submit(extranonce2="abcdef01", nonce="0000000a", rolled="00002000")
    miner.submit(extranonce2="ABCDEF01", nonce="A", rolled="2000")
    miner.submit(extranonce2="0xAbCdEf01", nonce="0x0A", rolled="0X00002000", job="0x01")
    assert mine.judge() == [ACCEPTED, Verdict.DUPLICATE, Verdict.DUPLICATE]


def test_five_parameters_after_configure_and_six_without_are_both_valid() -> None:
    """A share without version bits was hashed with the job's version, whatever the mask."""
    mine, miner = _miner()
    miner.submit()
    miner.submit(rolled="00000000")
    miner.submit(rolled="20000000")
    assert mine.judge() == [ACCEPTED, Verdict.DUPLICATE, Verdict.VERSION_OUTSIDE_MASK]
    mine.engine.set_version_mask(miner.session, 0)
    miner.submit(rolled="00000000", nonce=1)
    miner.submit(nonce=1)
    assert mine.judge() == [ACCEPTED, Verdict.DUPLICATE]


@pytest.mark.parametrize(
    "params",
    [
        "[]",
        "{}",
        "null",
        '"a"',
        '["a"]',
        '["a","1","e2e2e2e2","0"]',
        '["a","1","e2e2e2e2","0","0","0","0"]',
        '["a","1","e2e2e2e2","0",-1]',
        '["a","1","e2e2e2e2","0",1.5]',
        '["a","1","e2e2e2e2","0",1e3]',
        '["a","1","e2e2e2e2","0",01]',
        '["a","1","e2e2e2e2","0",null]',
        '["a","1","e2e2e2e2","0",true]',
        '["a","1","e2e2e2e2","0",[]]',
        '["a","1","e2e2e2e2","0","\\n"]',
    ],
)
def test_parameters_that_are_not_plain_are_left_to_python(params: str) -> None:
    mine, miner = _miner()
    line = _raw(params)
    assert miner.say(line) == [line[:-1]]
    assert mine.engine.queued() == 0


@pytest.mark.parametrize(
    "line",
    [
        b'{"params":%b,"method":"mining.submit","id":4}',
        b' { "id" : 4 , "method" : "mining.submit" , "params" :\t%b } ',
        b'{"jsonrpc":"2.0","id":4,"method":"mining.submit","params":%b}',
        b'{"id":4,"method":"mining.submit","params":%b}\r',
    ],
)
def test_a_submit_may_be_written_in_any_order_and_spacing(line: bytes) -> None:
    mine, miner = _miner()
    assert miner.say(line % json.dumps(submit_params()).encode() + b"\n") == []
    assert mine.judge() == [ACCEPTED]
    assert miner.answers == [b'{"id":4,"result":true,"error":null}']


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":1,"method":"mining.authorize","params":["a","x"]}',
        b'{"id":1,"method":"mining.submit2","params":["a","1","e2e2e2e2","0","0"]}',
        b'{"id":1,"method":"mining\\u002esubmit","params":["a","1","e2e2e2e2","0","0"]}',
        b'{"id":1,"id":2,"method":"mining.submit","params":["a","1","e2e2e2e2","0","0"]}',
        b'{"id":1,"method":"mining.submit","params":["a","1","e2e2e2e2","0","0"],"worker":"a"}',
        b'{"id":1,"method":"mining.submit","params":["a","1","e2e2e2e2","0","0"]} x',
        b'{"id":1,"method":"mining.submit","params":["a","1","e2e2e2e2","0","0"]',
        b'{"id":1,"method":"mining.submit","params":["a","1","e2e2e2e2","0","0",]}',
        b'{"id":1,"method":"mining.submit"}',
        b'{"params":["a","1","e2e2e2e2","0","0"]}',
        b'[{"id":1,"method":"mining.submit","params":["a","1","e2e2e2e2","0","0"]}]',
        b'{"id":1,"result":true,"error":null}',
        b"{}",
        b"\x00",
        b"\xff\xfe\x00garbage",
        b"GET / HTTP/1.1\r",
        b"[" * 150,
    ],
    ids=range(17),
)
def test_every_other_line_is_handed_to_python_as_it_is(line: bytes) -> None:
    mine, miner = _miner()
    assert miner.say(line + b"\n") == [line]
    assert mine.engine.queued() == 0


def test_what_the_engine_takes_for_a_submit_is_one_to_a_json_parser_too() -> None:
    """A submit with a few bytes changed, left out or put in: no sharper, no laxer than real JSON."""
    for seed in range(2_000):
        try:
            _changed_here_and_there(Random(seed))
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


def _changed_here_and_there(random: Random) -> None:
    mine, miner = _miner()
    line = bytearray(submit_line(nonce=random.randint(0, 99), rolled=random.choice([None, 0x2000]))[:-1])
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(line))
        put = random.choice([b"", bytes([random.choice(b'"\\,:[]{}0123 \tx.-eE\r')])])
        line[at : at + random.randint(0, 2)] = put
    handed_back = miner.say(bytes(line) + b"\n")
    if handed_back or not bytes(line).strip(b" \t\r"):
        return
    request = messages.decode(bytes(line))
    assert isinstance(request, messages.Request)
    assert request.method == "mining.submit"
    assert len(request.params) in (5, 6)
    mine.judge()
    assert miner.answers[0].startswith(b'{"id":%b,' % request.id)
    # Python's own way of reading the same submit leads to the same verdict.
    if all(isinstance(param, str) for param in request.params):
        other, twin = _miner()
        other.engine.submit(twin.session, request.id, messages.parse_submit(request.params).params)
        assert other.judge() == mine.verdicts
