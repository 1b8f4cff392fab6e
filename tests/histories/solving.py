"""Solutions for tests: shares that are blocks, found by hashing, on templates that a test chose.

Must not know: nodes, engines, the pool around it.
"""

import struct
from typing import Any

from pool.chain.addresses import script_for
from pool.chain.templates import Template, branch_of, merkle_root, parse_template, sha256d, work_from_template
from stratum.job import Job, Solution, Work
from tests.fakes.bitcoinds import template_result

PAYOUT = script_for("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "regtest")
EXTRANONCE1, EXTRANONCE2 = bytes.fromhex("e1e1e1e1"), bytes.fromhex("e2e2e2e2e2e2e2e2")


def work_on(
    template: Template, *, payout_script: bytes = PAYOUT, tag: str = "/angara/", salt: bytes = b"bootjob1"
) -> Work:
    """Work on a template that pays the test's address."""
    extranonce_size = len(EXTRANONCE1 + EXTRANONCE2)
    return work_from_template(
        template,
        payouts=[(payout_script, template.coinbase_value_sat)],
        tag=tag,
        salts=lambda: salt,
        extranonce_size=extranonce_size,
        branch=branch_of(template),
    )


def solve(work: Work, *, hits: bool = True, extranonce1: bytes = EXTRANONCE1, **changes: int) -> Solution:
    """A share on `work` that is a block, or with `hits=False` one that is none."""
    version, ntime = changes.get("version", work.version), changes.get("ntime", work.ntime)
    root = merkle_root(work.coinbase1 + extranonce1 + EXTRANONCE2 + work.coinbase2, work.branch)
    head = struct.pack("<I32s32sII", version, work.prevhash_internal, root, ntime, work.nbits)
    nonce = 0
    while True:
        found = sha256d(head + struct.pack("<I", nonce))
        if (int.from_bytes(found, "little") <= work.network_target) == hits:
            break
        nonce += 1
    return Solution(
        job=Job(seq=1, channel=1, rate=1, clean=True, work=work),
        worker=1,
        extranonce1=extranonce1,
        extranonce2=EXTRANONCE2,
        ntime=ntime,
        nonce=nonce,
        version=version,
        hash_internal=found,
        difficulty_log2=0,
        tallied=True,
    )


def a_solution(**template_changes: Any) -> Solution:
    """A solution on getblocktemplate's answer with these changes."""
    return solve(work_on(parse_template(template_result(**template_changes))))


def hash_hex(solution: Solution) -> str:
    """The block's hash as a node writes it."""
    return solution.hash_internal[::-1].hex()


def template_of(solution: Solution) -> Template:
    """The template that it was found on."""
    template = solution.job.work.origin
    assert isinstance(template, Template)
    return template
