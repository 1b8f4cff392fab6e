"""What a statement carries so that it can be checked without its pool: the day's root, the tenant's leaves
with their way to it, every settlement that the credits are the sum of, the blocks whose fees its prices go
by, and a signature over all of that.

Invariants: nothing in it depends on when it is asked for, nor how often. A statement has it where its last
day was closed with a key that is there now. Must not know: how it is shown, and whether all of the period's
work is in the books yet: who asks makes sure of that.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from payouts.proof.angara_verify import VERSION, signed_message
from payouts.proof.key import ProofKey
from payouts.proof.roots import Root, root_of, tree_of
from payouts.proof.tree import Node
from payouts.ratebook import blocks_of_basis
from payouts.rates import PSAT_PER_SAT, Scheme
from payouts.schemas.many import among
from payouts.schemas.money import rates, settled_shares, settlements
from payouts.statements.money import StatementWrong
from payouts.statements.period import EPOCH, Period, utc
from payouts.statements.statement import Statement, tenant_number


class ProofNode(msgspec.Struct, frozen=True):
    """Beside the way of a leaf."""

    hash: str
    sum_sat: int


class ProofLeaf(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the balance, and its way to the root, from below; bit i of `index` says it is right."""

    index: int
    amount_sat: int
    nonce: str
    path: tuple[ProofNode, ...]


class ProofSettlement(msgspec.Struct, frozen=True, kw_only=True):
    """What a rate's hour, or a later part of it, was worth: in the order in which they carried."""

    rate: int
    hour_utc: str
    part: int
    shares: dict[str, int]  # by the exponent of their difficulty, a power of two
    credit_psat: int
    carry_in_psat: int
    posted_sat: int
    carry_out_psat: int


class FeeBlock(msgspec.Struct, frozen=True, kw_only=True):
    """A block of the chain, and what its transactions paid in fees."""

    height: int
    hash: str
    fees_sat: int


class FeeBasis(msgspec.Struct, frozen=True, kw_only=True):
    """What the block fees of these rates are the mean of: blocks of the list, each pair from the first to the
    last of them."""

    rates: tuple[int, ...]
    blocks: tuple[tuple[int, int], ...]


class ProofFees(msgspec.Struct, frozen=True, kw_only=True):
    """Behind all prices that go by the fees of recent blocks. Lists of an hour and of the next have most of
    their blocks in common: each is there once, lowest first."""

    blocks: tuple[FeeBlock, ...]
    bases: tuple[FeeBasis, ...]


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """`signature` is over the statement's content hash and all the rest of this."""

    version: int
    root: Root
    leaves: tuple[ProofLeaf, ...]
    settlements: tuple[ProofSettlement, ...]
    block_fees: ProofFees
    signature: str = ""


def proof_of(connection: Connection, statement: Statement, key: ProofKey) -> Proof | None:
    """By this key, or the one before it that closed its last day; None where neither did. Raises
    StatementWrong where the root is of other balances."""
    period = period_of(statement)
    day = (period.to_day - timedelta(days=1) - EPOCH).days
    root = root_of(connection, day)
    signer = None if root is None else key.of(root.key)
    if root is None or signer is None:
        return None
    tree = tree_of(connection, signer, day, root.book)
    if (tree.root.hash.hex(), tree.root.sum_sat) != (root.root, root.total_sat):
        raise StatementWrong(f"root {root.number} is not that of the balances at the end of {root.day}")
    leaves = tree.leaves(statement.tenant)
    if sum(it.amount_sat for it in leaves) != statement.money.closing_sat:
        raise StatementWrong(f"root {root.number} has another balance of {statement.tenant}")
    proof = Proof(
        version=VERSION,
        root=root,
        leaves=tuple(
            ProofLeaf(
                index=it.index,
                amount_sat=it.amount_sat,
                nonce=it.nonce.hex(),
                path=tuple(map(_node, it.path)),
            )
            for it in leaves
        ),
        settlements=_settlements(connection, tenant_number(connection, statement.tenant), period),
        block_fees=_block_fees(connection, statement),
    )
    content: dict[str, Any] = msgspec.to_builtins(proof)
    signature = signer.sign(signed_message(statement.content_hash, content))
    return msgspec.structs.replace(proof, signature=signature.hex())


def period_of(statement: Statement) -> Period:
    return Period(*(msgspec.convert(it, type=type(EPOCH)) for it in (statement.from_day, statement.to_day)))


def _block_fees(connection: Connection, statement: Statement) -> ProofFees:
    by_fees = [it.rate for it in statement.rates if it.scheme == Scheme.FPPS and it.sat_per_ph_day is None]
    of, based = rates.c, (rates.c.fee_basis_id.is_not(None), among(connection, rates.c.id, by_fees))
    used: dict[int, list[int]] = defaultdict(list)
    if by_fees:
        for row in connection.execute(select(of.id, of.fee_basis_id).where(*based).order_by(of.id)):
            used[row.fee_basis_id].append(row.id)
    listed = {it: blocks_of_basis(connection, it) for it in used}
    blocks = sorted({(it.height, it.hash, it.fees_sat) for basis in listed.values() for it in basis})
    places = {block: at for at, block in enumerate(blocks)}
    return ProofFees(
        blocks=tuple(FeeBlock(height=height, hash=hash_, fees_sat=sat) for height, hash_, sat in blocks),
        bases=tuple(
            FeeBasis(
                rates=tuple(used[it]),
                blocks=_runs(places[block.height, block.hash, block.fees_sat] for block in listed[it]),
            )
            for it in sorted(used)
        ),
    )


def _runs(places: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """The first and the last of those that are one after the other."""
    runs: list[tuple[int, int]] = []
    for at in sorted(places):
        if runs and runs[-1][1] == at - 1:
            runs[-1] = runs[-1][0], at
        else:
            runs.append((at, at))
    return tuple(runs)


def _node(node: Node) -> ProofNode:
    return ProofNode(node.hash.hex(), node.sum_sat)


def _settlements(connection: Connection, tenant_id: int, period: Period) -> tuple[ProofSettlement, ...]:
    of = settlements.c
    within = (of.tenant_id == tenant_id, of.settled_at_s >= period.from_s, of.settled_at_s < period.to_s)
    shares: dict[int, dict[str, int]] = {}
    counted = settled_shares.c
    for seq, log2, count in connection.execute(
        select(counted.settlement_seq, counted.difficulty_log2, counted.shares)
        .join(settlements, of.seq == counted.settlement_seq)
        .where(*within)
    ):
        shares.setdefault(seq, {})[str(log2)] = count
    return tuple(
        ProofSettlement(
            rate=row.rate_id,
            hour_utc=utc(row.hour * 3600),
            part=row.part,
            shares=shares[row.seq],
            credit_psat=row.credit_sat * PSAT_PER_SAT + row.credit_psat,
            carry_in_psat=row.carry_in_psat,
            posted_sat=row.posted_sat,
            carry_out_psat=row.carry_out_psat,
        )
        for row in connection.execute(select(settlements).where(*within).order_by(of.seq))
    )
