"""A share found by one of our miners is, byte for byte, what the other pool computes from our submit.

Our side is the production path: notify, work, the engine's verdict on a miner's own line, the submit. Theirs
is built here from the text of both ends, with hashlib and nothing of ours.
"""

import hashlib
import json
import struct
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum._engine import Engine, Found
from stratum.job import Work
from stratum.upstream.extranonce_split import ExtranonceNeed
from stratum.upstream.messages import VERSION_MASK
from stratum.upstream.session import UpstreamSession
from stratum.upstream.shares import UpstreamJob, UpstreamShare
from tests.fakes.upstream_lines import AUTHORISED, ENDPOINT, call, said, tell

EVERY_HASH = (1 << 256) - 1

hex_of = st.binary(max_size=120).map(bytes.hex)
hash_hex = st.binary(min_size=32, max_size=32).map(bytes.hex)
u32 = st.integers(0, 0xFFFFFFFF)


@st.composite
def upstream_jobs(draw: st.DrawFn) -> dict[str, Any]:
    """What an upstream says, and what a miner of ours tries on it."""
    mask = draw(st.none() | u32.map(lambda bits: bits & VERSION_MASK))
    return {
        "extranonce1": draw(st.binary(max_size=12).map(bytes.hex)),
        "extranonce2_bytes": draw(st.integers(4, 16)),
        "mask": mask,
        "notify": [
            draw(st.text(st.characters(codec="ascii"), max_size=12)),
            draw(hash_hex),
            draw(hex_of),
            draw(hex_of),
            draw(st.lists(hash_hex, max_size=12)),
            f"{draw(u32):08x}",
            "1d00ffff",
            f"{draw(st.integers(0, 0xFFFFFFFF - 7_000)):08x}",
            True,
        ],
        "prefix": draw(u32),
        "miner_extranonce2": draw(st.integers(0, (1 << 64) - 1)),
        "ntime_ahead": draw(st.integers(0, 7_000)),
        "nonce": draw(u32),
        "rolled": draw(u32) & (mask or 0),
        "rolls": mask is not None and draw(st.booleans()),
    }


def session_for(job: dict[str, Any]) -> UpstreamSession:
    session = UpstreamSession(upstream="north", connection=1, endpoint=ENDPOINT, need=ExtranonceNeed())
    session.open()
    granted = {"version-rolling": job["mask"] is not None, "version-rolling.mask": f"{job['mask'] or 0:08x}"}
    tell(
        session,
        {"id": 1, "result": granted, "error": None},
        {"id": 2, "result": [[], job["extranonce1"], job["extranonce2_bytes"]], "error": None},
        AUTHORISED,
        call("mining.notify", *job["notify"]),
    )
    session.data_to_send()
    return session


def found_by_a_miner(session: UpstreamSession, work: Work, job: dict[str, Any]) -> Found:
    """What the engine finds in the line that a miner with our prefix sends."""
    assert session.split is not None
    prefix_bytes, miner_bytes = session.split.prefix_bytes, session.split.miner_bytes
    engine = Engine()
    engine.add_channel(1)
    engine.add_job(
        channel=1,
        seq=1,
        rate=1,
        coinbase1=work.coinbase1,
        coinbase2=work.coinbase2,
        extranonce_size=prefix_bytes + miner_bytes,
        branch=b"".join(work.branch),
        prevhash_internal=work.prevhash_internal,
        version=work.version,
        nbits=work.nbits,
        ntime_min=work.ntime_min,
        ntime_max=work.ntime_max,
        network_target_le=EVERY_HASH.to_bytes(32, "little"),
    )
    miner = engine.open(object())
    prefix = (job["prefix"] & ((1 << 8 * prefix_bytes) - 1)).to_bytes(prefix_bytes, "big")
    engine.subscribe(miner, 1, prefix, miner_bytes)
    engine.authorise(miner, b"acme.c01.u1", 1)
    engine.set_version_mask(miner, job["mask"] or 0)
    engine.pin_difficulty(miner, -32, 1)
    extranonce2 = f"{job['miner_extranonce2'] & ((1 << 8 * miner_bytes) - 1):0{2 * miner_bytes}x}"
    params = [
        "acme.c01.u1",
        "1",
        extranonce2,
        f"{work.ntime + job['ntime_ahead']:08x}",
        f"{job['nonce']:08x}",
    ]
    params += [f"{job['rolled']:08x}"] if job["rolls"] else []
    line = json.dumps({"id": 1, "method": "mining.submit", "params": params}).encode() + b"\n"
    assert engine.feed(miner, line) is None
    [found] = engine.validate()[1]
    return found


def hash_of_the_upstream(job: dict[str, Any], params: list[str]) -> bytes:
    """Their side: BIP 310's version, their own coinbase, the header, hashed twice."""
    _, job_id, extranonce2, ntime, nonce, *bits = params
    expected_id, prevhash, coinbase1, coinbase2, branch, version, nbits, _, _ = job["notify"]
    assert job_id == expected_id
    assert len(extranonce2) == 2 * job["extranonce2_bytes"]
    assert len(bits) == (job["mask"] is not None)
    mask = job["mask"] or 0
    assert not bits or int(bits[0], 16) & ~mask == 0
    node = bytes.fromhex(coinbase1 + job["extranonce1"] + extranonce2 + coinbase2)
    node = hashlib.sha256(hashlib.sha256(node).digest()).digest()
    for sibling in branch:
        node = hashlib.sha256(hashlib.sha256(node + bytes.fromhex(sibling)).digest()).digest()
    words = [prevhash[at : at + 8] for at in range(0, 64, 8)]
    header = b"".join(
        (
            struct.pack("<I", (int(version, 16) & ~mask) | (int(bits[0], 16) & mask if bits else 0)),
            b"".join(bytes.fromhex(word)[::-1] for word in words),
            node,
            *(struct.pack("<I", int(text, 16)) for text in (ntime, nbits, nonce)),
        )
    )
    return hashlib.sha256(hashlib.sha256(header).digest()).digest()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(upstream_jobs())
def test_the_upstream_computes_the_header_that_our_miner_hashed(job: dict[str, Any]) -> None:
    session = session_for(job)
    work = session.work
    assert work is not None
    assert isinstance(work.origin, UpstreamJob)
    found = found_by_a_miner(session, work, job)
    share = UpstreamShare(
        key=found.hash_internal,
        job=work.origin,
        extranonce2=found.extranonce1 + found.extranonce2,
        ntime=found.ntime,
        nonce=found.nonce,
        version=found.version,
    )
    assert session.refusal(share) is None
    session.submit(share, 0.0)
    [line] = said(session)
    assert hash_of_the_upstream(job, line["params"]) == found.hash_internal


def test_a_share_mined_with_a_wider_mask_than_the_upstream_allows_is_not_sent_as_another_one() -> None:
    """The upstream would compute another header, and reject it as too easy."""
    job = {
        "extranonce1": "01",
        "extranonce2_bytes": 8,
        "mask": 0x00C00000,
        "notify": ["j", "00" * 32, "", "", [], "20000000", "1d00ffff", "6553f100", True],
    }
    session = session_for(job)
    assert session.work is not None
    assert isinstance(session.work.origin, UpstreamJob)
    share = UpstreamShare(
        key=b"k", job=session.work.origin, extranonce2=bytes(8), ntime=1, nonce=1, version=0x20C02000
    )
    assert session.refusal(share) is not None
    assert session.refusal(msgspec.structs.replace(share, version=0x20C00000)) is None
