"""The tree of liabilities: exact sums, and nothing about anybody else but what the sums say."""

import pytest

from payouts.proof.key import Blinding, NoSigning, ProofKey
from payouts.proof.tree import LEAVES_MIN, PARTS, BadTree, Tree
from payouts.rates import MAX_MONEY_SAT
from tests.histories.proof import KEY

BLINDING = KEY.blinding("11" * 32, 20_000)
TWENTY = {f"tenant-{number}": number * 1_000_003 for number in range(20)}


def sums_beside(tree: Tree, tenant: str) -> set[int]:
    return {it.sum_sat for leaf in tree.leaves(tenant) for it in leaf.path}


def test_leaves_are_all_of_each_balance_and_the_root_is_all_of_them() -> None:
    tree = Tree(TWENTY, BLINDING)
    assert tree.root.sum_sat == sum(TWENTY.values())
    for tenant, balance_sat in TWENTY.items():
        leaves = tree.leaves(tenant)
        assert len(leaves) == PARTS
        assert sum(it.amount_sat for it in leaves) == balance_sat
    assert tree.leaves("nobody") == ()


def test_the_same_day_has_the_same_tree_and_another_day_another() -> None:
    again = Tree(dict(reversed(TWENTY.items())), KEY.blinding("11" * 32, 20_000))
    assert Tree(TWENTY, BLINDING).root == again.root
    for other in (KEY.blinding("11" * 32, 20_001), KEY.blinding("22" * 32, 20_000), Blinding(bytes(32))):
        assert Tree(TWENTY, other).root.hash != again.root.hash


def test_no_sum_beside_a_tenants_way_is_another_ones_balance() -> None:
    """Of twenty tenants in twenty trees: one leaf each would have told half of them to their neighbour."""
    for day in range(20):
        tree = Tree(TWENTY, KEY.blinding("11" * 32, day))
        for tenant in TWENTY:
            others = {balance for name, balance in TWENTY.items() if name != tenant and balance}
            assert not sums_beside(tree, tenant) & others


def test_up_to_a_number_of_tenants_trees_have_one_size() -> None:
    sizes = {
        count: Tree(dict.fromkeys(map(str, range(count)), 5), BLINDING).size for count in (0, 1, 128, 129)
    }
    assert sizes == {0: LEAVES_MIN, 1: LEAVES_MIN, 128: LEAVES_MIN, 129: 2 * LEAVES_MIN}


def test_a_tenant_that_is_owed_nothing_is_in_it() -> None:
    tree = Tree({"acme": 0, "borealis": 7}, BLINDING)
    assert [it.amount_sat for it in tree.leaves("acme")] == [0] * PARTS


def test_balances_that_cannot_be_are_refused() -> None:
    for balances in ({"acme": -1}, {"acme": 5, "borealis": -4}, {"": 1}):
        with pytest.raises(BadTree, match="no liability"):
            Tree(balances, BLINDING)
    assert Tree({"acme": MAX_MONEY_SAT}, BLINDING).root.sum_sat == MAX_MONEY_SAT
    with pytest.raises(BadTree, match="than there will ever be"):
        Tree({"acme": MAX_MONEY_SAT, "borealis": 1}, BLINDING)


def test_a_key_is_none_or_keeps_its_secret() -> None:
    for secret in (b"", bytes(32), b"\xff" * 32, bytes(33)):
        with pytest.raises(NoSigning):
            ProofKey(secret)
    assert repr(KEY) == f"ProofKey({KEY.public.hex()})"
