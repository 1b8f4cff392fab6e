"""The Merkle-sum tree of a day's liabilities: what every tenant is owed, as leaves that tell nobody whose.

Each balance is cut at random into PARTS leaves, so that the sum beside one's own is nobody's balance (BitMEX,
2021); each has a nonce, and the tenant's name in its hash, so that no two can be shown the same one; all
stand in random order among leaves of nothing, which fill the tree up. A node's hash has both sums in it
(Chalkias and others, Broken Proofs of Solvency, 2022, on Maxwell's tree). Every tenant learns the total, and
the sums beside its own way to the root.

Invariants: no amount is negative and no sum above what there is, or BadTree; the same balances and blinding
give the same tree. Must not know: the database.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from payouts.proof.angara_verify import tagged
from payouts.proof.key import Blinding
from payouts.rates import MAX_MONEY_SAT

PARTS: Final = 8
LEAVES_MIN: Final = 1024  # up to 128 tenants: their number does not show in the length of a path
TENANTS_MAX: Final = 1 << 17  # of a tree of a million leaves: four seconds


class BadTree(ValueError):
    """Balances that cannot be, of which no tree is made."""


class Node(msgspec.Struct, frozen=True):
    """Of the tree: its hash, and what is owed below it."""

    hash: bytes
    sum_sat: int


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a tenant's balance, and the nodes beside its way to the root, from below."""

    index: int
    amount_sat: int
    nonce: bytes
    path: tuple[Node, ...]


class _Part(msgspec.Struct, frozen=True):
    """A leaf before it has its place."""

    tenant: str
    amount_sat: int
    nonce: bytes

    def node(self) -> Node:
        data = self.amount_sat.to_bytes(8, "big") + self.nonce + self.tenant.encode()
        return Node(tagged("angara/leaf", data), self.amount_sat)


class Tree:
    """Of balances by the tenants' names. Raises BadTree."""

    def __init__(self, balances_sat: Mapping[str, int], blinding: Blinding) -> None:
        _check(balances_sat)
        self._parts = _placed(balances_sat, blinding)
        self._levels = [[it.node() for it in self._parts]]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            self._levels.append([_above(*below[at : at + 2]) for at in range(0, len(below), 2)])

    @property
    def root(self) -> Node:
        """Its sum is all that is owed."""
        return self._levels[-1][0]

    @property
    def size(self) -> int:
        """Leaves, those of nothing included."""
        return len(self._parts)

    def leaves(self, tenant: str) -> tuple[Leaf, ...]:
        """A tenant's, in the order of the tree; none of who is not in it."""
        return tuple(
            Leaf(index=at, amount_sat=it.amount_sat, nonce=it.nonce, path=self._path(at))
            for at, it in enumerate(self._parts)
            if it.tenant == tenant
        )

    def _path(self, index: int) -> tuple[Node, ...]:
        return tuple(nodes[index >> level ^ 1] for level, nodes in enumerate(self._levels[:-1]))


def _check(balances_sat: Mapping[str, int]) -> None:
    if len(balances_sat) > TENANTS_MAX:
        raise BadTree(f"{len(balances_sat)} tenants are more than {TENANTS_MAX}")
    for tenant, balance_sat in balances_sat.items():
        if not tenant or balance_sat < 0:
            raise BadTree(f"{balance_sat} sat owed to {tenant!r:.80} are no liability")
    if sum(balances_sat.values()) > MAX_MONEY_SAT:
        raise BadTree("more is owed than there will ever be")


def _placed(balances_sat: Mapping[str, int], blinding: Blinding) -> list[_Part]:
    """All leaves in their order; those of nothing fill it up to a power of two."""
    size = max(LEAVES_MIN, 1 << (PARTS * len(balances_sat) - 1).bit_length()) if balances_sat else LEAVES_MIN
    placed = []
    for tenant, balance_sat in balances_sat.items():
        for part, amount_sat in enumerate(_cut(tenant, balance_sat, blinding)):
            leaf = _Part(tenant, amount_sat, blinding.of("nonce", part, tenant))
            placed.append((blinding.of("place", part, tenant), leaf))
    for number in range(size - len(placed)):
        placed.append((blinding.of("place of nothing", number), _Part("", 0, blinding.of("nothing", number))))
    return [it for _, it in sorted(placed, key=lambda pair: pair[0])]


def _cut(tenant: str, balance_sat: int, blinding: Blinding) -> Sequence[int]:
    """PARTS amounts that add up to it, cut anywhere with the same probability."""
    cuts = [
        int.from_bytes(blinding.of("cut", number, tenant), "big") % (balance_sat + 1)
        for number in range(PARTS - 1)
    ]
    ends = [0, *sorted(cuts), balance_sat]
    return [after - before for before, after in pairwise(ends)]


def _above(left: Node, right: Node) -> Node:
    data = left.hash + left.sum_sat.to_bytes(8, "big") + right.hash + right.sum_sat.to_bytes(8, "big")
    return Node(tagged("angara/node", data), left.sum_sat + right.sum_sat)
