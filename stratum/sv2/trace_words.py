"""What a frame between a machine and the pool is, as text and in words, for a person who looks at it.

A frame that came may be anything that was authenticated. Must not know: sessions, encryption, who looks.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from stratum.difficulty import DIFF1
from stratum.miners.traces.line_words import number
from stratum.sv2 import messages
from stratum.sv2.fields import BadPayload
from stratum.sv2.messages import CloseChannel, SubmitShares, UpdateChannel
from stratum.sv2.noise import HEADER_BYTES, Frame, unpack_header

_NAMES: Final = {
    0x10: "OpenStandardMiningChannel",
    0x11: "OpenStandardMiningChannel.Success",
    0x13: "OpenExtendedMiningChannel",
    0x14: "OpenExtendedMiningChannel.Success",
    0x15: "NewMiningJob",
    0x16: "UpdateChannel",
    0x17: "UpdateChannel.Error",
    0x18: "CloseChannel",
    0x19: "SetExtranoncePrefix",
    0x1A: "SubmitSharesStandard",
    0x1B: "SubmitSharesExtended",
    0x1C: "SubmitShares.Success",
    0x1D: "SubmitShares.Error",
    0x1F: "NewExtendedMiningJob",
    0x20: "SetNewPrevHash",
    0x21: "SetTarget",
}


def frames_of(data: bytes) -> Iterator[Frame]:
    """Whole ones, one behind the other."""
    at = 0
    while at < len(data):
        extension, kind, size = unpack_header(data[at : at + HEADER_BYTES])
        at += HEADER_BYTES
        yield Frame(extension, kind, data[at : at + size])
        at += size


def text_of(frame: Frame) -> str:
    """Its name and its payload in hex."""
    name = _NAMES.get(frame.kind, f"message 0x{frame.kind:02x}")
    return f"{name} {frame.payload.hex()}".rstrip()


def heard(frame: Frame) -> str:
    """What the machine says with it."""
    try:
        message = messages.parse(frame)
    except BadPayload as error:
        return f"no message: {error}"
    match message:
        case SubmitShares(sequence=sequence, job_id=job_id, worker=worker):
            whose = "" if worker is None else f", of {worker.decode(errors='backslashreplace')}"
            return f"share {sequence}, of job {job_id:x}{whose}"
        case UpdateChannel(hashrate_hps=hashrate_hps, max_target=target):
            return (
                f"has {hashrate_hps:g} hashes a second now, wants difficulty {_difficulty(target)} at least"
            )
        case CloseChannel():
            return "closes the channel"
    return ""


def said(frame: Frame) -> str:
    """What the pool says with it, which is a message of ours."""
    payload = frame.payload

    def at(start: int, size: int = 4) -> int:
        return int.from_bytes(payload[start : start + size], "little")

    match frame.kind:
        case 0x11 | 0x14:
            return f"channel {at(4)} is open, difficulty {_difficulty(at(8, 32))}"
        case 0x15 | 0x1F:
            later = "" if payload[8] else ", to be begun by the previous hash that follows"
            return f"job {at(4):x}{later}"
        case 0x20:
            return f"job {at(4):x} begins, and what was before is worth nothing"
        case 0x21:
            return f"difficulty {_difficulty(at(4, 32))} from now on"
        case 0x19:
            return f"extranonce prefix {payload[5:].hex()} from the next job on"
        case 0x1C:
            return f"accepts {at(8)}, up to share {at(4)}"
        case 0x1D:
            return f"refuses share {at(4)}: {_code(payload[8:])}"
        case 0x17 | 0x18:
            return _code(payload[4:])
    return ""


def _code(text: bytes) -> str:
    return text[1 : 1 + text[0]].decode()


def _difficulty(target: int) -> str:
    return number(Fraction(DIFF1, target)) if target else "that there is none of"
