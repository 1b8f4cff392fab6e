"""How plans and batches of payouts are told, to people and as JSON.

Must not know: who asks, and what may be done with a batch.
"""

from typing import Final

from pool.cli.output import Column, Form, Row, print_json, say, show
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
ANCHORED: Final = ("psbt", "signed", "broadcast")  # states in which an input is there that it must spend


def btc_and_sat(sat: int) -> str:
    """0.01234567 BTC (1,234,567 sat)."""
    return f"{btc(sat)} BTC ({amount(sat)})"


def payable_again(batch: Row) -> str:
    """What became of a batch that is paid no more."""
    return f"batch {batch['batch']} is {batch['state']}: {btc_and_sat(batch['total_sat'])} are payable again"


def show_plan(planned: Row, form: Form) -> None:
    if form is Form.JSON:
        print_json(planned)
        return
    show(planned["payees"], PLANNED)
    say(f"{len(planned['payees'])} payees, {btc_and_sat(planned['total_sat'])}")
    if planned["held_back"]:
        show(planned["held_back"], HELD_BACK)


def show_batches(batches: list[Row], form: Form) -> None:
    show(batches, BATCHES, form)


def show_batch(batch: Row, form: Form) -> None:
    if form is Form.JSON:
        print_json(batch)
        return
    say(f"batch {batch['batch']} is {batch['state']}, drafted by {batch['created_by']}")
    say(f"digest {batch['digest']}")
    show(batch["outputs"], OUTPUTS)
    say(f"{len(batch['outputs'])} payees, {btc_and_sat(batch['total_sat'])}")
    for approval in batch["approvals"]:
        say(f"approved by {approval['approved_by']}, fee cap {btc_and_sat(approval['fee_cap_sat'])}")
    for it in batch["attempts"]:
        where = f", in block {it['block_hash']} at height {it['block_height']}" if it["block_hash"] else ""
        fee = btc_and_sat(it["fee_sat"])
        say(f"attempt {it['attempt']} is {it['state']}: txid {it['txid']}, fee {fee}{where}")
        if it["quarantine_reason"]:
            say(f"  {it['quarantine_reason']}")
    if batch["state"] in ANCHORED and batch["attempts"]:
        say(f"anchor {batch['attempts'][0]['anchor']}")
