"""The handshake and the frames: the server's half against a half that was written apart from it."""

import itertools
import struct
from random import Random

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum.sv2.authority import Credentials
from stratum.sv2.noise import PAYLOAD_BYTES_MAX, BadPeer, Frame, NoiseServer, encrypted_size
from stratum.sv2.secp256k1 import key_pair
from tests.stages.sv2_machine import Cipher, Initiator, WrongPool, authority_of

NOW_S = 1_800_000_000
CREDENTIALS = Credentials(key_pair(), validity_s=3_600, wall_clock=lambda: NOW_S)


def shaken(seed: int = 1) -> tuple[NoiseServer, Cipher, Cipher]:
    """A server, and what its machine says and hears with."""
    initiator, server = Initiator(Random(seed)), NoiseServer()
    second = server.shake(initiator.first, CREDENTIALS)
    assert len(second) == 234
    return server, *initiator.finish(second, authority_of(CREDENTIALS.public), NOW_S)


SERVER, _, HEARD = shaken()


def received(server: NoiseServer, data: bytes) -> list[Frame]:
    """What is whole by then."""
    server.feed(data)
    return list(iter(server.next_frame, None))


def sealed(said: Cipher, kind: int, payload: bytes) -> bytes:
    header = said.seal(struct.pack("<HB", 0, kind) + len(payload).to_bytes(3, "little"))
    return header + (said.seal(payload) if payload else b"")


def test_what_is_said_arrives_in_both_directions_however_it_is_cut() -> None:
    server, said, heard = shaken()
    wire = sealed(said, 1, b"one") + sealed(said, 2, b"") + sealed(said, 3, b"three" * 1_000)
    random, frames, at = Random(5), [], 0
    while at < len(wire):
        size = random.randrange(1, 400)
        frames += received(server, wire[at : at + size])
        at += size
    assert frames == [Frame(0, 1, b"one"), Frame(0, 2, b""), Frame(0, 3, b"three" * 1_000)]
    out = server.encrypt(Frame(0x8000, 9, b"x").packed + Frame(0, 8, b"").packed)
    assert heard.unseal(out[:22]) == b"\x00\x80\x09\x01\x00\x00"
    assert heard.unseal(out[22:39]) == b"x"
    assert heard.unseal(out[39:]) == b"\x00\x00\x08\x00\x00\x00"


@pytest.mark.parametrize("size", [0, 1, 65_518, 65_519, 65_520, 131_038, 131_039])
def test_a_long_payload_is_encrypted_in_blocks(size: int) -> None:
    server, _, heard = shaken()
    out = server.encrypt(Frame(0, 1, bytes(size)).packed)
    assert len(out) == 22 + encrypted_size(size)
    heard.unseal(out[:22])
    found = [heard.unseal(out[at : at + 65_535]) for at in range(22, len(out), 65_535)]
    assert b"".join(found) == bytes(size)


@given(st.integers(0, 233), st.integers(0, 7))
@settings(deadline=None, max_examples=25)
def test_a_changed_bit_of_the_handshake_is_no_pool(at: int, bit: int) -> None:
    initiator = Initiator(Random(at))
    second = bytearray(NoiseServer().shake(initiator.first, CREDENTIALS))
    second[at] ^= 1 << bit
    with pytest.raises((InvalidTag, WrongPool)):
        initiator.finish(bytes(second), authority_of(CREDENTIALS.public), NOW_S)


@given(st.integers(0, 47), st.integers(0, 7))
@settings(deadline=None, max_examples=50)
def test_a_changed_bit_of_a_frame_is_the_end(at: int, bit: int) -> None:
    server, said, _ = shaken()
    wire = bytearray(sealed(said, 1, b"ten bytes."))
    wire[at] ^= 1 << bit
    with pytest.raises(BadPeer, match="decryption failed"):
        received(server, bytes(wire))


def test_what_was_recorded_is_worth_nothing_to_another_connection() -> None:
    """The same first packet meets another ephemeral key; what its machine said then is not understood."""
    first = Initiator(Random(1)).first
    one, other = NoiseServer(), NoiseServer()
    assert one.shake(first, CREDENTIALS) != other.shake(first, CREDENTIALS)
    server, said, _ = shaken()
    wire = sealed(said, 1, b"share")
    assert received(server, wire)
    with pytest.raises(BadPeer):
        received(server, wire)
    again = NoiseServer()
    again.shake(first, CREDENTIALS)
    with pytest.raises(BadPeer):
        received(again, wire)


def test_a_message_that_is_too_long_is_the_end_before_it_has_come() -> None:
    server, said, _ = shaken()
    header = said.seal(struct.pack("<HB", 0, 0) + (PAYLOAD_BYTES_MAX + 1).to_bytes(3, "little"))
    with pytest.raises(BadPeer, match="too long"):
        received(server, header)


@given(st.binary(max_size=400), st.integers(0, 2**16))
@settings(deadline=None)
def test_whatever_bytes_come_are_no_frames(data: bytes, seed: int) -> None:
    server = SERVER if len(data) < 22 else shaken(seed % 3 + 1)[0]
    if len(data) < 22:
        return
    with pytest.raises(BadPeer):
        received(server, data)


def test_any_64_bytes_are_a_key() -> None:
    random = Random(3)
    for data in (bytes(64), b"\xff" * 64, *(random.randbytes(64) for _ in range(20))):
        assert len(NoiseServer().shake(data, CREDENTIALS)) == 234


def test_a_certificate_is_renewed_in_time_and_after_a_clock_that_was_set_back() -> None:
    now_s = float(NOW_S)
    credentials = Credentials(key_pair(), validity_s=3_600, wall_clock=lambda: now_s)
    first = credentials.certificate()
    now_s += 1_799
    assert credentials.certificate() == first
    for step_s in (1, 1_800, 10_000, -7_200):
        now_s += step_s
        renewed = credentials.certificate()
        assert renewed.valid_from <= now_s - 3_600
        assert renewed.not_valid_after >= now_s + 1_800
    assert renewed.not_valid_after < first.not_valid_after + 20_000


def test_a_certificate_of_another_servers_key_is_found_out() -> None:
    """Who has recorded a certificate has not the key that it is of."""
    stolen = CREDENTIALS.certificate()
    thief = Credentials(key_pair(), validity_s=3_600, wall_clock=lambda: NOW_S)
    thief.certificate = lambda: stolen  # type: ignore[method-assign]
    initiator = Initiator(Random(9))
    second = NoiseServer().shake(initiator.first, thief)
    with pytest.raises(WrongPool, match="authority"):
        initiator.finish(second, authority_of(CREDENTIALS.public), NOW_S)


def test_no_nonce_is_used_twice() -> None:
    server, _, _ = shaken()
    frames = [server.encrypt(Frame(0, 1, b"same").packed) for _ in range(50)]
    assert len(set(frames)) == 50
    assert all(a[:22] != b[:22] for a, b in itertools.pairwise(frames))
