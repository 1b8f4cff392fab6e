"""One simulated miner: headers like real blocks, shares that an independent parser finds correct, and the
conversation with a pool, line by line."""

import json
import random
import struct
from typing import Any

import pytest
from bitcoin.core import CBlockHeader, lx

from pool.swarm.machine import (
    UNANSWERED_MAX,
    BrokenPool,
    MinerJob,
    MinerMachine,
    Reconnect,
    RefusedByPool,
    State,
    SwarmStats,
    header_without_nonce,
    merkle_root,
    sha256d,
)
from stratum.difficulty import DIFF1, target_from_nbits
from stratum.job import swap_words

WORKER = "acme.c07.r12s04"
MASK = 0x1FFFE000

# Block 170, the first with a second transaction: its coinbase, cut where a pool would cut it.
BLOCK_170_COINBASE = bytes.fromhex(
    "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff0704ffff001d0102"
    "ffffffff0100f2052a01000000434104d46c4968bde02899d2aa0963367c7a6ce34eec332b32e42e5f3407e052d64ac625"
    "da6f0718e7b302140434bd725706957c092db53805b821a85b23a7ac61725bac00000000"
)
BLOCK_170_PREVHASH = lx("000000002a22cfee1f2c846adbd12b3e183d4f97683f85dad08a79780a84bd55")
BLOCK_170_TX = lx("f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16")
BLOCK_170_HASH = lx("00000000d1145790a8694403d4063f323d499e655c83426834d4ce2f8dd4a2ee")
BLOCK_170_NTIME, BLOCK_170_NBITS, BLOCK_170_NONCE = 1231731025, 0x1D00FFFF, 1889418792


def block_170_job(**changes: Any) -> MinerJob:
    fields: dict[str, Any] = {
        "job_id": "aa",
        "prevhash_internal": BLOCK_170_PREVHASH,
        "coinbase1": BLOCK_170_COINBASE[:42],
        "coinbase2": BLOCK_170_COINBASE[50:],
        "branch": (BLOCK_170_TX,),
        "version": 1,
        "nbits": BLOCK_170_NBITS,
        "ntime": BLOCK_170_NTIME,
        "extranonce1": BLOCK_170_COINBASE[42:46],
        "extranonce2_size": 4,
        "target": DIFF1,
    }
    return MinerJob(**(fields | changes))


def notify(job_id: str = "aa", *, clean: bool = True) -> dict[str, Any]:
    """Block 170 as mining.notify, with a version that leaves the general purpose bits to the miner."""
    return {
        "id": None,
        "method": "mining.notify",
        "params": [
            job_id,
            swap_words(BLOCK_170_PREVHASH).hex(),
            BLOCK_170_COINBASE[:42].hex(),
            BLOCK_170_COINBASE[50:].hex(),
            [BLOCK_170_TX.hex()],
            "20000000",
            f"{BLOCK_170_NBITS:08x}",
            f"{BLOCK_170_NTIME:08x}",
            clean,
        ],
    }


def tell(machine: MinerMachine, message: dict[str, Any]) -> list[dict[str, Any]]:
    """One message to the machine; what it answers, decoded."""
    return [json.loads(line) for line in machine.receive_line(json.dumps(message).encode())]


def call(machine: MinerMachine, method: str, *params: Any) -> list[dict[str, Any]]:
    return tell(machine, {"id": None, "method": method, "params": list(params)})


def configured(mask: str = "1fffe000") -> dict[str, Any]:
    return {"id": 1, "result": {"version-rolling": True, "version-rolling.mask": mask}, "error": None}


SUBSCRIBED = {"id": 2, "result": [[["mining.notify", "s1"]], "0a0b0c0d", 4], "error": None}
AUTHORISED = {"id": 3, "result": True, "error": None}


def mining_machine(
    *, difficulty: float = 2.0**-32, mask: str | None = "1fffe000", stats: SwarmStats | None = None
) -> MinerMachine:
    """A machine that has been through the handshake and has a difficulty, but no job."""
    machine = MinerMachine(WORKER, random.Random(170), stats or SwarmStats())
    machine.open()
    refused = {"id": 1, "result": None, "error": [20, "no extensions here", None]}
    tell(machine, configured(mask) if mask else refused)
    tell(machine, SUBSCRIBED)
    tell(machine, AUTHORISED)
    call(machine, "mining.set_difficulty", difficulty)
    return machine


def share_of(machine: MinerMachine, hashes_max: int = 100_000) -> list[str]:
    """The parameters of the next mining.submit."""
    line = machine.next_share(hashes_max)
    assert line is not None
    return list(json.loads(line)["params"])


def header_of(params: list[str], extranonce1: bytes = bytes.fromhex("0a0b0c0d")) -> CBlockHeader:
    """The header a pool rebuilds from a submit on `notify()`, by python-bitcoinlib's serialisation."""
    coinbase = BLOCK_170_COINBASE[:42] + extranonce1 + bytes.fromhex(params[2]) + BLOCK_170_COINBASE[50:]
    rolled_bits = int(params[5], 16) if len(params) == 6 else 0
    return CBlockHeader(
        nVersion=0x20000000 | rolled_bits,
        hashPrevBlock=BLOCK_170_PREVHASH,
        hashMerkleRoot=sha256d(sha256d(coinbase) + BLOCK_170_TX),
        nTime=int(params[3], 16),
        nBits=BLOCK_170_NBITS,
        nNonce=int(params[4], 16),
    )


# Headers


def test_the_header_built_from_a_job_is_the_header_of_a_real_block() -> None:
    header = header_without_nonce(block_170_job(), BLOCK_170_COINBASE[46:50], 1)
    digest = sha256d(header + struct.pack("<I", BLOCK_170_NONCE))
    assert digest == BLOCK_170_HASH
    assert int.from_bytes(digest, "little") <= target_from_nbits(BLOCK_170_NBITS)


def test_the_branch_folds_to_the_merkle_root_of_a_real_block() -> None:
    """Block 125552: four transactions."""
    coinbase, second, third, fourth = (
        lx("51d37bdd871c9e1f4d5541be67a6ab625e32028744d7d4609d0c37747b40cd2d"),
        lx("60c25dda8d41f8d3d7d5c6249e2ea1b05a25bf7ae2ad6d904b512b31f997e1a1"),
        lx("01f314cdd8566d3e5dbdd97de2d9fbfbfd6873e916a00d48758282cbb81a45b9"),
        lx("b519286a1040da6ad83c783eb2872659eaf57b1bec088e614776ffe7dc8f6d01"),
    )
    root = merkle_root(coinbase, (second, sha256d(third + fourth)))
    assert root == lx("2b12fcf1b09288fcaff797d71e950e71ae42b91e8bdb2304758dfcffc2b620e3")


def test_a_machine_finds_the_real_nonce_when_it_is_the_next_to_try() -> None:
    """From the text of mining.notify to the block of 2009, at its real difficulty."""

    class ScriptedRandom(random.Random):
        def randbytes(self, n: int) -> bytes:
            return BLOCK_170_COINBASE[46:50]

        def getrandbits(self, k: int) -> int:
            return BLOCK_170_NONCE - 3

    machine = MinerMachine(WORKER, ScriptedRandom(), SwarmStats())
    tell(machine, {"id": 1, "result": {}, "error": None})
    tell(machine, {"id": 2, "result": [[], BLOCK_170_COINBASE[42:46].hex(), 4], "error": None})
    tell(machine, AUTHORISED)
    message = notify()
    message["params"][5] = "00000001"
    tell(machine, message)

    assert machine.next_share(3) is None, "three nonces before it are no shares of difficulty 1"
    assert share_of(machine, 1) == [WORKER, "aa", BLOCK_170_COINBASE[46:50].hex(), "496ab951", "709e3e28"]


# Shares


def test_shares_reach_the_target_and_are_all_different() -> None:
    machine = mining_machine(difficulty=2.0**-26)
    tell(machine, notify())
    shares = []
    for submit_id in range(5, 35):
        params = share_of(machine)
        shares.append(params)
        assert params[:2] == [WORKER, "aa"]
        assert int.from_bytes(header_of(params).GetHash(), "little") <= DIFF1 << 26
        assert int(params[5], 16) & ~MASK == 0
        tell(machine, {"id": submit_id, "result": True, "error": None})
    assert len({tuple(params) for params in shares}) == 30
    assert len({params[5] for params in shares}) > 1, "version bits are rolled"
    assert {len(text) for params in shares for text in params[2:]} == {8}


def test_a_search_is_bounded_and_goes_on_where_it_stopped() -> None:
    machine, same = mining_machine(difficulty=2.0**-22), mining_machine(difficulty=2.0**-22)
    tell(machine, notify())
    tell(same, notify())
    steps = 0
    while (line := machine.next_share(50)) is None:
        steps += 1
    assert steps > 2
    assert line == same.next_share(1_000_000)


def test_no_job_no_share() -> None:
    machine = mining_machine()
    assert machine.next_share(10) is None


def test_without_version_rolling_a_share_has_five_parameters() -> None:
    machine = mining_machine(mask=None, difficulty=2.0**-26)
    tell(machine, notify())
    params = share_of(machine)
    assert len(params) == 5
    assert int.from_bytes(header_of(params).GetHash(), "little") <= DIFF1 << 26


def test_a_new_job_replaces_the_old_one_at_once() -> None:
    machine = mining_machine(difficulty=2.0**-16)
    tell(machine, notify("aa"))
    assert machine.next_share(2) is None
    call(machine, "mining.set_difficulty", 2.0**-26)
    newer = notify("ab", clean=False)
    newer["params"][7] = "496ab952"
    tell(machine, newer)
    params = share_of(machine)
    assert (params[1], params[3]) == ("ab", "496ab952")
    assert int.from_bytes(header_of(params).GetHash(), "little") <= DIFF1 << 26


def test_difficulty_and_extranonce_take_effect_with_the_next_job() -> None:
    machine = mining_machine(difficulty=2.0**-32)
    tell(machine, notify("aa"))
    call(machine, "mining.set_difficulty", 1 << 40)
    call(machine, "mining.set_extranonce", "ffee", 6)

    old = share_of(machine, 10)
    assert len(old[2]) == 8

    tell(machine, notify("ab"))
    assert machine.next_share(500) is None, "no such luck at difficulty 2^40"
    call(machine, "mining.set_difficulty", 2.0**-26)
    tell(machine, notify("ac"))
    new = share_of(machine)
    assert len(new[2]) == 12
    digest = header_of(new, extranonce1=bytes.fromhex("ffee")).GetHash()
    assert int.from_bytes(digest, "little") <= DIFF1 << 26


def test_a_version_mask_takes_effect_at_once() -> None:
    machine = mining_machine(difficulty=2.0**-32)
    tell(machine, notify())
    call(machine, "mining.set_version_mask", "00c00000")
    assert {int(share_of(machine)[5], 16) & ~0x00C00000 for _ in range(20)} == {0}


def test_verdicts_are_counted_by_reason() -> None:
    stats = SwarmStats()
    machine = mining_machine(stats=stats)
    tell(machine, notify())
    errors = [
        None,
        [21, "Job not found", None],
        [23, "low", None],
        [23, "Low", None],
        [99, "?", None],
        {"x": 1},
    ]
    for submit_id, error in enumerate(errors, start=5):
        share_of(machine)
        tell(machine, {"id": submit_id, "result": True if error is None else None, "error": error})
    tell(machine, {"id": 5, "result": True, "error": None})  # answered before: counts once
    assert (stats.submitted, stats.accepted) == (6, 1)
    assert stats.rejected == {"stale": 1, "low_difficulty": 2, "other": 2}


def test_a_pool_that_no_longer_answers_is_broken() -> None:
    machine = mining_machine()
    tell(machine, notify())
    for _ in range(UNANSWERED_MAX):
        share_of(machine)
    with pytest.raises(BrokenPool, match="without an answer"):
        machine.next_share(10)


# The conversation


def test_the_handshake_goes_one_step_at_a_time() -> None:
    machine = MinerMachine(WORKER, random.Random(1), SwarmStats())
    [opening] = [json.loads(line) for line in machine.open()]
    assert opening["method"] == "mining.configure"
    assert opening["params"] == [
        ["version-rolling"],
        {"version-rolling.mask": "1fffe000", "version-rolling.min-bit-count": 2},
    ]
    assert tell(machine, configured()) == [
        {"id": 2, "method": "mining.subscribe", "params": ["angara-swarm/1"]}
    ]
    assert tell(machine, SUBSCRIBED) == [{"id": 3, "method": "mining.authorize", "params": [WORKER, "x"]}]
    assert tell(machine, AUTHORISED) == [{"id": 4, "method": "mining.extranonce.subscribe", "params": []}]
    assert machine.state is State.MINING
    assert tell(machine, {"id": 4, "result": None, "error": [20, "not here", None]}) == []


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (
            {"id": 9, "method": "client.get_version", "params": []},
            {"id": 9, "result": "angara-swarm/1", "error": None},
        ),
        ({"id": "p", "method": "mining.ping", "params": []}, {"id": "p", "result": "pong", "error": None}),
        ({"id": None, "method": "mining.ping"}, {"id": None, "result": "pong", "error": None}),
        ({"id": 9, "method": "mining.pong", "params": []}, None),
        ({"id": None, "method": "client.show_message", "params": ["maintenance at noon"]}, None),
        ({"id": None, "method": "mining.something_new", "params": {"x": 1}}, None),
    ],
)
def test_questions_of_the_pool(request_: dict[str, Any], answer: dict[str, Any] | None) -> None:
    assert tell(mining_machine(), request_) == ([answer] if answer else [])


@pytest.mark.parametrize("reply_to", ["mining.subscribe", "mining.authorize"])
def test_a_refusal_ends_the_connection_with_the_words_of_the_pool(reply_to: str) -> None:
    machine = MinerMachine(WORKER, random.Random(1), SwarmStats())
    tell(machine, configured())
    if reply_to == "mining.authorize":
        tell(machine, SUBSCRIBED)
    request_id = 2 if reply_to == "mining.subscribe" else 3
    with pytest.raises(RefusedByPool, match=f"{reply_to}.*no such tenant"):
        tell(machine, {"id": request_id, "result": None, "error": [24, "no such tenant", None]})


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ([], Reconnect()),
        (["10.0.0.2", 3334, 5], Reconnect(host="10.0.0.2", port=3334, wait_s=5)),
        (["10.0.0.2", "3334", "5"], Reconnect(host="10.0.0.2", port=3334, wait_s=5)),
        (["", 3334], Reconnect(port=3334)),
        (["", 0, 86_400], Reconnect(wait_s=60)),
    ],
)
def test_reconnect_in_all_its_spellings(params: list[Any], expected: Reconnect) -> None:
    machine = mining_machine()
    assert call(machine, "client.reconnect", *params) == []
    assert machine.reconnect == expected


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"[]",
        b'{"id":null,"method":"mining.notify","params":["aa"]}',
        json.dumps(notify()).replace("20000000", "xyz").encode(),
        json.dumps(notify()).replace(BLOCK_170_TX.hex(), "00").encode(),
        b'{"id":null,"method":"mining.set_difficulty","params":[0]}',
        b'{"id":null,"method":"mining.set_extranonce","params":["00",99]}',
        b'{"id":null,"method":"mining.set_extranonce","params":["0",4]}',
        b'{"id":null,"method":"mining.set_version_mask","params":["1ffffffff"]}',
        b'{"id":null,"method":"client.reconnect","params":[[]]}',
        b"\xff\xfe",
    ],
)
def test_what_no_miner_understands_is_a_broken_pool(line: bytes) -> None:
    with pytest.raises(BrokenPool):
        mining_machine().receive_line(line)
