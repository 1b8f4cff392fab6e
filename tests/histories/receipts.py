"""An order whose hours are closed; and its receipts as a seller alters them who cheats."""

import json
from typing import Any

import msgspec

from payouts.audit.finding import Found
from payouts.audit.receipts import check_receipts
from payouts.proof import angara_verify
from payouts.proof.key import ProofKey
from payouts.receipts.receipt import Receipt
from payouts.receipts.rows import due_orders, made, note, receipts
from pool.books.book import bind
from pool.books.store import Store
from tests.histories.orders import OrderHistory, deliver
from tests.histories.proof import KEY
from tests.histories.statements import HOUR


class ClosedOrder(OrderHistory):
    """`blue`, of four hours from 10:30 to 13:15 of DAY; hours are closed by `close`."""

    def __init__(self, store: Store, **change: Any) -> None:
        super().__init__(store, **change)
        bind(store, "main")

    def close(self, until: int, key: ProofKey | None = KEY) -> tuple[Receipt, ...]:
        """As a pool does it whose books have passed that hour of DAY; the receipts that are new."""
        new: list[Receipt] = []
        with self.store.read() as connection:
            due = due_orders(connection, HOUR + until, again=True)
        for order_id in due:
            while True:
                with self.store.read() as connection:
                    more = made(connection, order_id, HOUR + until, key)
                if not more:
                    break
                with self.store.write() as connection:
                    assert note(connection, order_id, more)
                new += more
        return tuple(new)

    def told(self) -> list[dict[str, Any]]:
        """As they are given out."""
        with self.store.read() as connection:
            data = msgspec.json.encode(receipts(connection, self.blue.id))
        found: list[dict[str, Any]] = json.loads(data)
        return found


def closed_order(store: Store) -> ClosedOrder:
    """Delivered, and closed a day later."""
    order = ClosedOrder(store)
    deliver(order)
    order.close(37)
    return order


def audited(order: ClosedOrder) -> str | None:
    """Why a receipt is the first that is wrong."""
    with order.store.read() as connection:
        try:
            check_receipts(connection)
        except Found as found:
            return found.wrong.reason
        return None


def counted(chain: list[dict[str, Any]], rejects: bool = False) -> bytes:
    """What the buyer's pool would have counted if all of it were so."""
    lines = ["hour,target,accepted" + ",rejected" * rejects]
    for it in chain:
        for said in it["targets"]:
            more = f",{sum(said['rejected'].values())}" if rejects else ""
            lines.append(f"{it['hour_utc']},{said['target']},{said['accepted']}{more}")
    return ("\n".join(lines) + "\n").encode()


def written(chain: object) -> bytes:
    return angara_verify.as_written(chain)


def changed(chain: list[dict[str, Any]], at: int, **values: object) -> list[dict[str, Any]]:
    """A copy with other values in one of them."""
    copy: list[dict[str, Any]] = json.loads(json.dumps(chain))
    copy[at] |= values
    return copy


def signed_again(chain: list[dict[str, Any]], key: ProofKey = KEY) -> list[dict[str, Any]]:
    """As a seller writes it who has the key: whatever he changed, all that follows from it is right."""
    previous, work, owed = "0" * 64, 0, 0
    for number, it in enumerate(chain, 1):
        terms = it["terms"]
        mine = sum(shares << 48 + int(log2) for log2, shares in it["delivered"].items())
        here = mine
        if (good := it.get("made_good")) is not None:
            here = int(good["billed"]) - (int(good["granted"]) if terms["make_good"] != "refund" else 0)
            here += int(good.get("extended", 0))
        billed = angara_verify.price_psat(owed, terms)
        it |= {
            "number": number,
            "previous": previous,
            "work": str(mine),
            "work_before": str(work),
            "billed_before_psat": billed,
            "bill_psat": angara_verify.price_psat(owed + here, terms) - billed,
        }
        digest = angara_verify.receipt_hash(it)
        it |= {"hash": digest.hex(), "signature": key.sign(digest).hex()}
        previous, work, owed = it["hash"], work + mine, owed + here
    return chain
