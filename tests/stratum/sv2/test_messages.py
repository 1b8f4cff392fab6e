"""Messages: what machines say is read as it was said, and whatever else comes is refused."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratum._engine import Engine
from stratum.sv2 import messages
from stratum.sv2.channel_session import ERROR_CODES
from stratum.sv2.fields import BadPayload
from stratum.sv2.messages import (
    CloseChannel,
    OpenChannel,
    RequestExtensions,
    SetupConnection,
    SubmitShares,
    UpdateChannel,
    parse,
)
from stratum.sv2.noise import PLAIN_BYTES_MAX, Frame, unpack_header
from tests.stages.sv2_machine import KINDS, Fields, short, u256

U32 = st.integers(0, 2**32 - 1)
KNOWN = [(0, 0x00), (1, 0x00), (0, 0x10), (0, 0x13), (0, 0x16), (0, 0x18), (0, 0x1A), (0, 0x1B)]


@given(st.sampled_from(KNOWN), st.binary(max_size=300), st.booleans())
def test_any_payload_is_a_message_or_is_refused(of: tuple[int, int], payload: bytes, channel: bool) -> None:
    extension, kind = of
    try:
        message = parse(Frame(extension | (0x8000 if channel else 0), kind, payload))
    except BadPayload:
        return
    assert message is not None


@given(st.integers(0, 2**16 - 1), st.integers(0, 255), st.binary(max_size=60))
def test_what_is_not_for_us_is_passed_over(extension: int, kind: int, payload: bytes) -> None:
    if (extension & 0x7FFF, kind) not in KNOWN:
        assert parse(Frame(extension, kind, payload)) is None


@given(U32, U32, U32, U32, U32, U32, st.none() | st.binary(max_size=32))
def test_a_share_is_read_as_it_was_said(
    channel: int, sequence: int, job: int, nonce: int, ntime: int, version: int, extranonce: bytes | None
) -> None:
    payload = struct.pack("<6I", channel, sequence, job, nonce, ntime, version)
    said = SubmitShares(channel, sequence, job, nonce, ntime, version, extranonce)
    if extranonce is None:
        assert parse(Frame(0x8000, 0x1A, payload)) == said
        return
    payload += short(extranonce)
    assert parse(Frame(0x8000, 0x1B, payload)) == said
    for cut in range(len(payload)):
        with pytest.raises(BadPayload):
            parse(Frame(0x8000, 0x1B, payload[:cut]))


def test_a_share_names_its_worker_as_the_extension_says() -> None:
    base = struct.pack("<6I", 1, 2, 3, 4, 5, 6) + short(b"\x07" * 4)
    example = bytes.fromhex("000201000A576F726B65725F303031")  # the specification's
    unknown = struct.pack(">HBH", 9, 1, 3) + b"abc"
    for tail in (example, unknown + example, example + unknown):
        share = parse(Frame(0x8000, 0x1B, base + tail))
        assert isinstance(share, SubmitShares)
        assert share.worker == b"Worker_001"
    with pytest.raises(BadPayload, match="too long"):
        parse(Frame(0x8000, 0x1B, base + struct.pack(">HBH", 2, 1, 33) + b"x" * 33))
    with pytest.raises(BadPayload, match="too short"):
        parse(Frame(0x8000, 0x1B, base + example[:-1]))


def test_what_machines_say_is_read_as_it_was_said() -> None:
    texts = b"".join(map(short, ("Maker", "S21", "1.2", "serial")))
    setup = struct.pack("<BHHI", 0, 2, 2, 5) + short("pool.test") + struct.pack("<H", 3336) + texts
    assert parse(Frame(0, 0x00, setup)) == SetupConnection(0, 2, 2, 5, "Maker", "S21", "1.2")
    assert parse(Frame(1, 0x00, struct.pack("<4H", 7, 2, 2, 3))) == RequestExtensions(7, (2, 3))
    opened = struct.pack("<I", 9) + short("acme.c01.u1") + struct.pack("<f", 1e14) + u256(1 << 255)
    rate = struct.unpack("<f", struct.pack("<f", 1e14))[0]
    assert parse(Frame(0, 0x10, opened)) == OpenChannel(9, "acme.c01.u1", rate, 1 << 255, None)
    extended = OpenChannel(9, "acme.c01.u1", rate, 1 << 255, 4)
    assert parse(Frame(0, 0x13, opened + struct.pack("<H", 4))) == extended
    update = struct.pack("<If", 3, 1e14) + u256(5)
    assert parse(Frame(0x8000, 0x16, update)) == UpdateChannel(3, rate, 5)
    assert parse(Frame(0x8000, 0x18, struct.pack("<I", 3) + short("bye"))) == CloseChannel(3)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"a\nb", b"\x1b[2J", b"\x00"])
def test_a_name_that_cannot_be_printed_is_none(text: bytes) -> None:
    payload = struct.pack("<I", 9) + short(text) + struct.pack("<f", 0) + u256(1)
    with pytest.raises(BadPayload):
        parse(Frame(0, 0x10, payload))


@pytest.mark.parametrize(
    "said",
    [
        messages.setup_success(),
        messages.setup_error("x" * 300, 2),
        messages.open_standard_success(1, 2, 3, bytes(12), 4),
        messages.open_extended_success(1, 2, 3, 4, bytes(8), 5),
        messages.open_error(1, "unknown-user: \N{SNOWMAN}"),
        messages.new_mining_job(1, 2, None, 0x20000000, bytes(32)),
        messages.new_mining_job(1, 2, 3, 0x20000000, bytes(32)),
        messages.new_extended_mining_job(
            1, 2, 3, 4, rolls=True, branch=(bytes(32),) * 12, coinbase1=bytes(60_000), coinbase2=b"x"
        ),
        messages.set_new_prev_hash(1, 2, bytes(32), 3, 4),
        messages.set_target(1, (1 << 256) - 1),
        messages.set_extranonce_prefix(1, bytes(12)),
        messages.update_error(1, "x"),
        messages.close_channel(1, "x"),
        messages.shares_success(1, 2, 3, (1 << 64) - 1),
        messages.share_error(1, 2, "x"),
    ],
    ids=lambda it: hex(it[2]),
)
def test_what_the_pool_says_is_read_whole_by_whoever_reads_the_specification(said: bytes) -> None:
    extension, kind, size = unpack_header(said)
    fields = Fields(said[6:])
    assert len(fields.data) == size
    KINDS[kind][1](fields)
    assert not fields.data
    assert bool(extension & 0x8000) == (0x15 <= kind <= 0x21)
    assert size < PLAIN_BYTES_MAX or kind == 0x1F


def test_every_answer_of_the_engine_has_a_code() -> None:
    """All that it has, and those of two shares as they come."""
    engine = Engine()
    session = engine.open("somebody")
    for params in ((b"w", b"1", b"", b"0", b"0"), (b"w", b"1", b"00", b"0", b"0")):
        engine.submit(session, b"1", params)
    ((_, replies),), _, _ = engine.validate()
    for line in replies.splitlines():
        assert ERROR_CODES[line.split(b'"')[-2]]
    assert all(code.isascii() and code.isprintable() for code in ERROR_CODES.values())
    text = (Path(messages.__file__).parents[1] / "native" / "judge.cpp").read_bytes()
    _, _, answers = text.partition(b"kAnswers{")
    rejected = [line for line in answers.partition(b"};")[0].splitlines() if b"[2" in line]
    assert {line.split(b'\\"')[-2] for line in rejected} == set(ERROR_CODES)
