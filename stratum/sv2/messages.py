"""The messages of Stratum V2 that a pool hears and says (specification, 3.6, 5.3 and the two extensions).

`parse` turns a frame into what a machine says, a frozen struct; None is a message that is not for us, which
is passed over. What the pool says are functions that give a whole frame. Job declaration and template
distribution are protocols of their own, which are not spoken here.

Must not know: sessions, encryption, what is done about a message.
"""

from collections.abc import Callable
from struct import Struct, pack
from typing import Final

import msgspec

from stratum.sv2.fields import BadPayload, Reader, code, number256, numbers16, sized, sized64k
from stratum.sv2.noise import Frame

VERSION: Final = 2
MINING: Final = 0  # the protocol
CHANNEL_MESSAGE: Final = 0x8000  # the bit of the extension field: the payload begins with a channel id
# Flags of SetupConnection.
REQUIRES_STANDARD_JOBS: Final = 1 << 0
REQUIRES_WORK_SELECTION: Final = 1 << 1
REQUIRES_VERSION_ROLLING: Final = 1 << 2
KNOWN_FLAGS: Final = REQUIRES_STANDARD_JOBS | REQUIRES_VERSION_ROLLING

CORE: Final = 0x0000
NEGOTIATION: Final = 0x0001
WORKER_TRACKING: Final = 0x0002
USER_IDENTITY: Final = 0x01  # the field that it adds to a share
USER_IDENTITY_BYTES_MAX: Final = 32

# Error codes: what a machine is told beside a number. Printable ASCII.
UNSUPPORTED_PROTOCOL: Final = "unsupported-protocol"
VERSION_MISMATCH: Final = "protocol-version-mismatch"
UNSUPPORTED_FLAGS: Final = "unsupported-feature-flags"
UNKNOWN_USER: Final = "unknown-user"
MAX_TARGET: Final = "max-target-out-of-range"
EXTRANONCE_SIZE: Final = "min-extranonce-size-too-large"
NO_CHANNEL: Final = "invalid-channel-id"


class SetupConnection(msgspec.Struct, frozen=True):
    """The first that a machine says. The texts are its own choice."""

    protocol: int
    min_version: int
    max_version: int
    flags: int
    vendor: str
    hardware_version: str
    firmware: str


class RequestExtensions(msgspec.Struct, frozen=True):
    request_id: int
    extensions: tuple[int, ...]


class OpenChannel(msgspec.Struct, frozen=True):
    """`min_extranonce_size` of an extended channel; None of a standard one."""

    request_id: int
    user_identity: str
    hashrate_hps: float  # as the machine says, which may be no number
    max_target: int
    min_extranonce_size: int | None


class UpdateChannel(msgspec.Struct, frozen=True):
    channel_id: int
    hashrate_hps: float
    max_target: int


class CloseChannel(msgspec.Struct, frozen=True):
    channel_id: int


class SubmitShares(msgspec.Struct, frozen=True):
    """`extranonce` of an extended channel, None of a standard one; `worker` where the share names one."""

    channel_id: int
    sequence: int
    job_id: int
    nonce: int
    ntime: int
    version: int
    extranonce: bytes | None = None
    worker: bytes | None = None


Heard = SetupConnection | RequestExtensions | OpenChannel | UpdateChannel | CloseChannel | SubmitShares

_SHARE: Final = Struct("<IIIIII")


def parse(frame: Frame) -> Heard | None:
    """What a machine says. Raises BadPayload."""
    parser = _PARSERS.get((frame.extension & ~CHANNEL_MESSAGE, frame.kind))
    return None if parser is None else parser(Reader(frame.payload))


def _setup(reader: Reader) -> SetupConnection:
    protocol, min_version, max_version, flags = reader.unpack(Struct("<BHHI"))
    reader.sized(255)  # the host and the port that it has us under
    reader.take(2)
    vendor, hardware_version, firmware, _ = (reader.text() for _ in range(4))
    return SetupConnection(protocol, min_version, max_version, flags, vendor, hardware_version, firmware)


def _extensions(reader: Reader) -> RequestExtensions:
    return RequestExtensions(reader.number(2), reader.numbers16())


def _open_standard(reader: Reader) -> OpenChannel:
    return OpenChannel(reader.number(4), reader.text(), reader.f32(), reader.number(32), None)


def _open_extended(reader: Reader) -> OpenChannel:
    opened = _open_standard(reader)
    return msgspec.structs.replace(opened, min_extranonce_size=reader.number(2))


def _update(reader: Reader) -> UpdateChannel:
    return UpdateChannel(reader.number(4), reader.f32(), reader.number(32))


def _close(reader: Reader) -> CloseChannel:
    return CloseChannel(reader.number(4))


def _share(reader: Reader) -> SubmitShares:
    channel_id, sequence, job_id, nonce, ntime, version = reader.unpack(_SHARE)
    return SubmitShares(channel_id, sequence, job_id, nonce, ntime, version)


def _submit_standard(reader: Reader) -> SubmitShares:
    return _share(reader)


def _submit_extended(reader: Reader) -> SubmitShares:
    share, extranonce = _share(reader), reader.sized(32)
    worker = reader.tlv().get((WORKER_TRACKING, USER_IDENTITY))
    if worker is not None and len(worker) > USER_IDENTITY_BYTES_MAX:
        raise BadPayload("a worker's name is too long")
    return msgspec.structs.replace(share, extranonce=extranonce, worker=worker)


_PARSERS: Final[dict[tuple[int, int], Callable[[Reader], Heard]]] = {
    (CORE, 0x00): _setup,
    (NEGOTIATION, 0x00): _extensions,
    (CORE, 0x10): _open_standard,
    (CORE, 0x13): _open_extended,
    (CORE, 0x16): _update,
    (CORE, 0x18): _close,
    (CORE, 0x1A): _submit_standard,
    (CORE, 0x1B): _submit_extended,
}


# What the pool says


def _said(kind: int, *parts: bytes) -> bytes:
    return Frame(CORE, kind, b"".join(parts)).packed


def _to_channel(kind: int, channel_id: int, *parts: bytes) -> bytes:
    return Frame(CHANNEL_MESSAGE, kind, b"".join((pack("<I", channel_id), *parts))).packed


def setup_success(flags: int = 0) -> bytes:
    return _said(0x01, pack("<HI", VERSION, flags))


def setup_error(error: str, flags: int = 0) -> bytes:
    return _said(0x02, pack("<I", flags), code(error))


def extensions_success(request_id: int, supported: tuple[int, ...]) -> bytes:
    return Frame(NEGOTIATION, 0x01, pack("<H", request_id) + numbers16(supported)).packed


def extensions_error(request_id: int, unsupported: tuple[int, ...]) -> bytes:
    payload = pack("<H", request_id) + numbers16(unsupported) + numbers16(())
    return Frame(NEGOTIATION, 0x02, payload).packed


def open_standard_success(
    request_id: int, channel_id: int, target: int, extranonce_prefix: bytes, group_id: int
) -> bytes:
    ids, group = pack("<II", request_id, channel_id), pack("<I", group_id)
    return _said(0x11, ids, number256(target), sized(extranonce_prefix), group)


def open_extended_success(
    request_id: int,
    channel_id: int,
    target: int,
    extranonce_size: int,
    extranonce_prefix: bytes,
    group_id: int,
) -> bytes:
    ids, group = pack("<II", request_id, channel_id), pack("<I", group_id)
    size = pack("<H", extranonce_size)
    return _said(0x14, ids, number256(target), size, sized(extranonce_prefix), group)


def open_error(request_id: int, error: str) -> bytes:
    return _said(0x12, pack("<I", request_id), code(error))


def _min_ntime(ntime: int | None) -> bytes:
    return b"\0" if ntime is None else b"\x01" + pack("<I", ntime)


def new_mining_job(
    channel_id: int, job_id: int, ntime: int | None, version: int, merkle_root_internal: bytes
) -> bytes:
    """Of a standard channel. Without an ntime it begins with a SetNewPrevHash."""
    head, tail = pack("<I", job_id), pack("<I", version)
    return _to_channel(0x15, channel_id, head, _min_ntime(ntime), tail, merkle_root_internal)


def new_extended_mining_job(
    channel_id: int,
    job_id: int,
    ntime: int | None,
    version: int,
    *,
    rolls: bool,
    branch: tuple[bytes, ...],
    coinbase1: bytes,
    coinbase2: bytes,
) -> bytes:
    """Likewise, with what its roots are made of."""
    head, tail = pack("<I", job_id), pack("<I?B", version, rolls, len(branch))
    coinbase = sized64k(coinbase1), sized64k(coinbase2)
    return _to_channel(0x1F, channel_id, head, _min_ntime(ntime), tail, *branch, *coinbase)


def set_new_prev_hash(
    channel_id: int, job_id: int, prevhash_internal: bytes, ntime: int, nbits: int
) -> bytes:
    """From here on that job, and none that came before."""
    head, tail = pack("<I", job_id), pack("<II", ntime, nbits)
    return _to_channel(0x20, channel_id, head, prevhash_internal, tail)


def set_target(channel_id: int, target: int) -> bytes:
    return _to_channel(0x21, channel_id, number256(target))


def set_extranonce_prefix(channel_id: int, prefix: bytes) -> bytes:
    return _to_channel(0x19, channel_id, sized(prefix))


def update_error(channel_id: int, error: str) -> bytes:
    return _to_channel(0x17, channel_id, code(error))


def close_channel(channel_id: int, reason: str) -> bytes:
    return _to_channel(0x18, channel_id, code(reason))


def shares_success(channel_id: int, last_sequence: int, count: int, difficulty_sum: int) -> bytes:
    """So many shares since the last answer, up to this one; their difficulties together."""
    return _to_channel(0x1C, channel_id, pack("<IIQ", last_sequence, count, difficulty_sum))


def share_error(channel_id: int, sequence: int, error: str) -> bytes:
    return _to_channel(0x1D, channel_id, pack("<I", sequence), code(error))
