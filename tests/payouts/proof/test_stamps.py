"""What calendars answer, and how a hostile one fares: a stamp that can be read again, or BadStamp."""

import random
from collections.abc import Callable

import pytest
from opentimestamps.core.notary import BitcoinBlockHeaderAttestation, PendingAttestation
from opentimestamps.core.op import OpAppend, OpSHA256
from opentimestamps.core.timestamp import Timestamp

from payouts.proof.stamps import (
    ANSWER_BYTES_MAX,
    CALENDARS_MAX,
    COMMITMENT_BYTES_MAX,
    HEIGHT_MAX,
    PROMISES_MAX,
    STAMP_BYTES_MAX,
    BadStamp,
    Promise,
    Stamp,
)
from tests.stages.calendar import commitment_of, promise, written

DIGEST = bytes(range(32))
ALICE, BOB = "https://alice.example", "https://bob.example/calendar/"
PENDING, BLOCK = b"\x00" + PendingAttestation.TAG, b"\x00" + BitcoinBlockHeaderAttestation.TAG


def in_block(of: bytes, height: int = 900_000) -> bytes:
    """As of a block whose merkle root is the hash of that."""
    tree = Timestamp(of)
    tree.ops.add(OpSHA256()).attestations.add(BitcoinBlockHeaderAttestation(height))
    return written(tree)


def promises(count: int) -> bytes:
    tree = Timestamp(DIGEST)
    for number in range(count):
        tree.attestations.add(PendingAttestation(f"https://{number}.example"))
    return written(tree)


def of_both() -> Stamp:
    return Stamp.promised(DIGEST, promise(DIGEST, BOB), Stamp.promised(DIGEST, promise(DIGEST, ALICE)))


def test_calendars_promise_and_one_of_them_names_a_block() -> None:
    both, of = of_both(), commitment_of(DIGEST)
    assert both.promises == (Promise(ALICE, of), Promise(BOB.rstrip("/"), of))
    assert both.blocks == ()
    done = both.kept(both.promises[0], in_block(of))
    (block,) = done.blocks
    assert (block.height, len(block.merkle_root), done.promises) == (900_000, 32, ())
    again = Stamp.read(done.written(), DIGEST)
    assert (again.blocks, again.promises) == (done.blocks, ())
    assert again.kept(both.promises[1], in_block(of)).written() == done.written(), "nothing is there twice"
    with pytest.raises(BadStamp, match="of another hash"):
        Stamp.read(done.written(), bytes(32))
    with pytest.raises(BadStamp, match="of another hash"):
        done.kept(Promise(ALICE, bytes(32)), in_block(bytes(32)))
    with pytest.raises(BadStamp, match="in place of a block"):
        both.kept(both.promises[0], promise(of, ALICE))


def chain_of(op: bytes, times: int) -> bytes:
    return op * times + in_block(DIGEST)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00",
        b"<html>",
        promise(DIGEST, ALICE) + b"\x00",
        promise(DIGEST, ALICE)[:-1],
        chain_of(OpSHA256.TAG, 300),  # deeper than the library reads
        chain_of(b"\xf3", 12),  # each doubles it
        chain_of(b"\x01", 1),  # no operation
        b"\xf0" + b"\xff" * 9_000,  # a length without an end
        BLOCK + b"\x04\xff\xff\xff\x7f",  # of a height beyond all
        BLOCK + b"\x01\x00",
        PENDING + b"\x06\x05ht tp",
        b"\x00" + bytes(8) + b"\x00",  # neither a block nor a calendar
        in_block(DIGEST, HEIGHT_MAX + 1),
        OpAppend(b"x").TAG + b"\x01x" + BLOCK + b"\x01\x05",  # no merkle root has 33 bytes
        promises(PROMISES_MAX + 1),
        OpAppend.TAG + b"\x21" + bytes(COMMITMENT_BYTES_MAX - 31) + PENDING + b"\x06\x05https",
        b"\xff" * 9_999,
        promise(DIGEST, ALICE).ljust(ANSWER_BYTES_MAX + 1, b"\0"),
    ],
)
def test_what_is_no_answer_ends_in_words_and_leaves_the_stamp_as_it_was(answer: bytes) -> None:
    stamp = of_both()
    before = stamp.written()
    for known in (None, stamp):
        with pytest.raises(BadStamp):
            Stamp.promised(DIGEST, answer, known)
    with pytest.raises(BadStamp):
        stamp.kept(Promise(ALICE, DIGEST), answer)
    assert stamp.written() == before


def large(of: bytes, number: int, *ends: object) -> bytes:
    """An answer that is as large as one may be."""
    tree = Timestamp(of)
    for part in (0, 1):
        top = tree.ops.add(OpAppend(bytes([number, part]) * 2_000)).ops.add(OpSHA256())
        top.attestations.update(ends)
    return written(tree)


def test_a_calendar_that_answers_as_much_as_it_may_leaves_room_for_the_others() -> None:
    """Seven of them do; what the eighth says is in it all the same, and it is read again."""
    stamp: Stamp | None = None
    ends = [PendingAttestation("https://bad.example"), PendingAttestation("https://bad.example/2")]
    for number in range(CALENDARS_MAX - 1):
        stamp = Stamp.promised(DIGEST, large(DIGEST, number, *ends), stamp)
    assert stamp is not None
    for number, it in enumerate(stamp.promises):
        if any(one.commitment == it.commitment for one in stamp.promises):
            stamp = stamp.kept(it, large(it.commitment, number, BitcoinBlockHeaderAttestation(1)))
    stamp = Stamp.promised(DIGEST, promise(DIGEST, BOB), stamp)
    (mine,) = stamp.promises
    stamp = stamp.kept(mine, in_block(mine.commitment))
    assert stamp.blocks[-1].height == 900_000
    data = stamp.written()
    assert ANSWER_BYTES_MAX * CALENDARS_MAX < len(data) <= STAMP_BYTES_MAX
    assert Stamp.read(data, DIGEST).written() == data


def flipped(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def made_up(chance: random.Random, data: bytes) -> bytes:
    tags = b"\x00\x02\x03\x08\x67\xf0\xf1\xf2\xf3\xff\x01"
    return (
        bytes(chance.choice(tags) for _ in range(chance.randrange(40))) + data[chance.randrange(len(data)) :]
    )


@pytest.mark.parametrize("how", [flipped, made_up])
def test_whatever_is_answered_is_a_stamp_that_can_be_read_again_or_none(
    how: Callable[[random.Random, bytes], bytes],
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, stamp, of = random.Random(seed), of_both(), commitment_of(DIGEST)
    for _ in range(2_000):
        try:
            if chance.random() < 0.5:
                made = Stamp.promised(DIGEST, how(chance, promise(DIGEST, ALICE)), stamp)
            else:
                made = stamp.kept(Promise(ALICE, of), how(chance, in_block(of)))
        except BadStamp:
            continue
        assert Stamp.read(made.written(), DIGEST).written() == made.written()
        assert made.blocks or set(stamp.promises) <= set(made.promises)
