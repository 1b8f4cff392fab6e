"""How plans and batches of payouts are told, to people and as JSON.

Must not know: who asks, and what may be done with a batch.
"""

from typing import Any, Final

from payouts.batches.batch import UNDER_WAY, Attempt, Batch, State
from payouts.batches.plan import Plan
from pool.cli.output import Column, Form, print_json, say, show
from pool.reports.figures import amount, btc, grouped

BTC: Final = Column("BTC", "amount_sat", btc, right=True)
SAT: Final = Column("sat", "amount_sat", grouped, right=True)
PLANNED: Final = (Column("tenant", "tenant"), Column("address", "address"), BTC, SAT)
HELD_BACK: Final = (
    Column("held back", "tenant"),
    Column("sat", "balance_sat", grouped, right=True),
    Column("why", "why"),
)
OUTPUTS: Final = (Column("output", "position", right=True), *PLANNED)
BATCHES: Final = (
    Column("batch", "batch", right=True),
    Column("state", "state"),
    Column("payees", "payees", right=True),
    BTC,
    SAT,
    Column("fee sat", "fee_sat", grouped, right=True),
    Column("txid", "txid"),
)


def btc_and_sat(sat: int) -> str:
    """0.01234567 BTC (1,234,567 sat)."""
    return f"{btc(sat)} BTC ({amount(sat)})"


def show_plan(planned: Plan, form: Form) -> None:
    payees = [
        {"tenant": it.tenant, "address": it.address, "amount_sat": it.amount_sat} for it in planned.items
    ]
    held_back = [
        {
            "tenant": it.tenant,
            "balance_sat": it.balance_sat,
            "why": ": ".join(filter(None, (it.reason, it.detail))),
        }
        for it in planned.held_back
    ]
    if form is Form.JSON:
        print_json({"payees": payees, "total_sat": planned.total_sat, "held_back": held_back})
        return
    show(payees, PLANNED)
    say(f"{len(payees)} payees, {btc_and_sat(planned.total_sat)}")
    if held_back:
        show(held_back, HELD_BACK)


def show_batches(batches: tuple[Batch, ...], form: Form) -> None:
    show([_in_a_line(it) for it in batches], BATCHES, form)


def show_batch(batch: Batch, form: Form) -> None:
    outputs = _outputs(batch)
    if form is Form.JSON:
        print_json(batch_row(batch))
        return
    say(f"batch {batch.id} is {batch.state}, drafted by {batch.created_by}")
    say(f"digest {batch.digest}")
    show(outputs, OUTPUTS)
    say(f"{len(outputs)} payees, {btc_and_sat(batch.total_sat)}")
    for approval in batch.approvals:
        say(f"approved by {approval.approved_by}, fee cap {btc_and_sat(approval.fee_cap_sat)}")
    for it in batch.attempts:
        where = f", in block {it.block_hash} at height {it.block_height}" if it.block_hash else ""
        say(f"attempt {it.attempt} is {it.state}: txid {it.txid}, fee {btc_and_sat(it.fee_sat)}{where}")
        if it.quarantine_reason:
            say(f"  {it.quarantine_reason}")
    if batch.state in UNDER_WAY and batch.state is not State.CONFIRMED and batch.attempts:
        anchor = batch.attempts[0].anchor
        say(f"anchor {anchor.txid}:{anchor.vout}")


def batch_row(batch: Batch) -> dict[str, Any]:
    """All of a batch, without what a signer needs."""
    return {
        "batch": batch.id,
        "state": batch.state.value,
        "digest": batch.digest,
        "created_by": batch.created_by,
        "created_at_s": batch.created_at_s,
        "total_sat": batch.total_sat,
        "outputs": _outputs(batch),
        "approvals": [
            {
                "approved_by": it.approved_by,
                "approved_at_s": it.approved_at_s,
                "digest": it.digest,
                "fee_cap_sat": it.fee_cap_sat,
            }
            for it in batch.approvals
        ],
        "attempts": [attempt_row(it) for it in batch.attempts],
    }


def attempt_row(it: Attempt) -> dict[str, Any]:
    return {
        "attempt": it.attempt,
        "state": it.state.value,
        "txid": it.txid,
        "fee_sat": it.fee_sat,
        "anchor": f"{it.anchor.txid}:{it.anchor.vout}",
        "quarantine_reason": it.quarantine_reason,
        "block_hash": it.block_hash,
        "block_height": it.block_height,
    }


def _outputs(batch: Batch) -> list[dict[str, Any]]:
    return [
        {
            "position": it.position,
            "tenant": it.tenant,
            "address": it.address,
            "amount_sat": it.amount_sat,
        }
        for it in batch.items
    ]


def _in_a_line(batch: Batch) -> dict[str, Any]:
    """A batch with the transaction that is in the chain, or the newest."""
    newest = batch.attempts[-1] if batch.attempts else None
    sent = next((it for it in reversed(batch.attempts) if it.block_hash), newest)
    return {
        "batch": batch.id,
        "state": batch.state.value,
        "payees": len(batch.items),
        "amount_sat": batch.total_sat,
        "fee_sat": sent and sent.fee_sat,
        "txid": sent and sent.txid,
    }
