"""The chain of roots against the ledger: every day that was closed has the total and the head that the ledger
has for it, follows the one before it, and is signed by the key that it names.

Where its key is there, the tree of each is built again. Must not know: where the key is kept.
"""

from collections import defaultdict
from datetime import date, timedelta

import msgspec
from sqlalchemy import Connection, func, select

from payouts.audit.finding import Found
from payouts.audit.key_changes import Links
from payouts.book_time import latest_s
from payouts.ledger import GENESIS_HASH
from payouts.proof.angara_verify import root_hash, signed_by
from payouts.proof.key import ProofKey
from payouts.proof.key_changes import changes_of_keys
from payouts.proof.roots import DAY_S, Root, roots
from payouts.proof.tree import BadTree, Tree
from payouts.schemas.money import ledger_accounts, ledger_transactions, ledger_transfers, tenants
from payouts.schemas.proof import liability_roots
from payouts.statements.period import EPOCH

TABLE = "liability_roots"


def check_roots(connection: Connection, key: ProofKey | None = None) -> None:
    """Raises Found for the first that is wrong."""
    found = roots(connection)
    if len(found) != connection.scalar(select(func.count()).select_from(liability_roots)):
        raise Found(TABLE, "all", "the book is bound to no chain")
    links = Links(changes_of_keys(connection), TABLE)
    if not found:
        links.ends()
        return
    changes = _changes_sat(connection)
    days, owed = sorted(changes), dict[str, int]()
    before: Root | None = None
    at = 0
    for root in found:
        day = (date.fromisoformat(root.day) - EPOCH).days
        if not links.passes(root.number, root.previous, root.key, root.hash):
            raise Found(TABLE, root.number, "it does not follow the one before it")
        _check_row(connection, root, before, day)
        while at < len(days) and days[at] <= day:
            for tenant, change_sat in changes[days[at]].items():
                owed[tenant] = owed.get(tenant, 0) + change_sat
            at += 1
        if sum(owed.values()) != root.total_sat:
            raise Found(TABLE, root.number, f"{sum(owed.values())} sat were owed at the end of {root.day}")
        if key is not None and (signer := key.of(root.key)) is not None:
            _check_tree(root, owed, signer, day)
        before = root
    links.ends()


def _check_row(connection: Connection, root: Root, before: Root | None, day: int) -> None:
    content = msgspec.to_builtins(root)
    digest = root_hash(content)
    if before is not None:
        after = str(date.fromisoformat(before.day) + timedelta(days=1))
        if (root.day, root.book) != (after, before.book):
            raise Found(TABLE, root.number, "it does not follow the one before it")
    if root.hash != digest.hex():
        raise Found(TABLE, root.number, "its hash is not that of its content")
    if not _is_signed(root, digest):
        raise Found(TABLE, root.number, "it is not signed by its key")
    ends_s = (day + 1) * DAY_S
    if latest_s(connection) < ends_s:
        raise Found(TABLE, root.number, "its day was not over")
    of = ledger_transactions.c
    last = connection.execute(
        select(of.seq, of.hash).where(of.booked_at_s < ends_s).order_by(of.seq.desc()).limit(1)
    ).one_or_none()
    if (root.ledger_seq, root.ledger_hash) != (tuple(last) if last else (0, GENESIS_HASH)):
        raise Found(TABLE, root.number, "the ledger had another head when its day ended")


def _is_signed(root: Root, digest: bytes) -> bool:
    try:
        return signed_by(bytes.fromhex(root.key), digest, bytes.fromhex(root.signature))
    except ValueError:
        return False


def _check_tree(root: Root, owed: dict[str, int], key: ProofKey, day: int) -> None:
    try:
        tree = Tree(owed, key.blinding(root.book, day))
    except BadTree as error:
        raise Found(TABLE, root.number, str(error)) from None
    if (tree.root.hash.hex(), tree.size) != (root.root, root.leaves):
        raise Found(TABLE, root.number, "its tree is not of what was owed to each tenant")


def _changes_sat(connection: Connection) -> dict[int, dict[str, int]]:
    """By day and tenant, by how much what is owed changed; of days without a booking there is nothing."""
    changes: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    day = (ledger_transactions.c.booked_at_s // DAY_S).label("day")
    for column, sign in ((ledger_transfers.c.to_account, 1), (ledger_transfers.c.from_account, -1)):
        moved = (
            select(day, tenants.c.name, func.sum(ledger_transfers.c.amount_sat))
            .join(ledger_transfers, ledger_transfers.c.transaction_seq == ledger_transactions.c.seq)
            .join(ledger_accounts, ledger_accounts.c.name == column)
            .join(tenants, tenants.c.id == ledger_accounts.c.tenant_id)
            .group_by(day, tenants.c.name)
        )
        for at, tenant, total_sat in connection.execute(moved):
            changes[int(at)][tenant] += sign * int(total_sat)
    return changes
