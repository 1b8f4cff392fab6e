"""`angara payout` as far as it is about a batch's transactions: given to the signer, taken back from it,
sent, and made anew with a higher fee.

Must not know: who is paid.
"""

import base64
import sys
from pathlib import Path
from typing import Annotated

import typer

from pool.cli.options import ShowForm, SignedBooks, with_options
from pool.cli.output import Form, print_json, say, tell
from pool.cli.payouts.batches import BatchArgument
from pool.whole_file import write_whole

app = typer.Typer()

RateOption = Annotated[
    int | None, typer.Option("--fee-rate", help="Fee in sat/vB, in place of the settings.")
]


@app.command("export")
@with_options
def export(
    books: SignedBooks,
    form: ShowForm,
    batch_id: BatchArgument,
    out: Annotated[Path | None, typer.Option(help="File for the PSBT; standard output without.")] = None,
    fee_rate: RateOption = None,
) -> None:
    """Write the PSBT for the signer (base64). From now on only the chain can end the batch."""
    from pool.cli.opened_paymaster import on_paymaster
    from pool.cli.payouts.tables import btc_and_sat

    found = on_paymaster(books, lambda it, by: it.export(batch_id, by, fee_rate))
    text = base64.b64encode(found.psbt).decode()
    if out is not None:
        write_whole(out, f"{text}\n".encode())
    if form is Form.JSON:
        row = {"batch": batch_id, "attempt": found.attempt, "txid": found.txid, "fee_sat": found.fee_sat}
        print_json(row | ({"psbt": text} if out is None else {"file": str(out)}))
        return
    if out is None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    words = f"batch {batch_id}, attempt {found.attempt}: txid {found.txid}, fee {btc_and_sat(found.fee_sat)}"
    say(words if out is None else f"{words}, written to {out}", err=True)


@app.command("import")
@with_options
def import_signed(
    books: SignedBooks,
    form: ShowForm,
    batch_id: BatchArgument,
    file: Annotated[Path, typer.Argument(help="The signed PSBT or transaction: binary, base64 or hex.")],
) -> None:
    """Take back what was signed. Whatever is not exactly what was exported is quarantined."""
    from payouts.batches.psbt import TEXT_BYTES_MAX
    from pool.cli.opened_paymaster import on_paymaster

    with file.open("rb") as source:
        data = source.read(TEXT_BYTES_MAX + 1)
    found = on_paymaster(books, lambda it, by: it.receive(batch_id, data, by))
    news = "is signed" if found.fresh else "was signed before, nothing is changed"
    if found.replaced:
        news = "is signed anew: no node would ever have taken the signatures of before"
    row = {"batch": batch_id, "attempt": found.attempt, "txid": found.txid, "fresh": found.fresh}
    tell(f"batch {batch_id}, attempt {found.attempt}: {found.txid} {news}", row, form)
    if found.warning is not None:
        say(f"the node would not take it now: {found.warning}", err=True)


@app.command("broadcast")
@with_options
def broadcast(books: SignedBooks, form: ShowForm, batch_id: BatchArgument) -> None:
    """Send the signed transaction to every node; again, as often as is wanted."""
    from pool.cli.opened_paymaster import on_paymaster
    from pool.treasury.chain_node import Answer

    answers = on_paymaster(books, lambda it, by: it.broadcast(batch_id, by))
    if form is Form.JSON:
        print_json([{"node": it.node, "answer": it.answer.value, "words": it.words} for it in answers])
    else:
        for it in answers:
            say(f"node {it.node}: {it.answer} {it.words}".rstrip())
    if all(it.answer is Answer.UNKNOWN for it in answers):
        say(
            "no node answered: it may be on its way all the same, `angara payout follow` sends it again",
            err=True,
        )
    if all(it.answer is Answer.REFUSED for it in answers):
        say(
            "no node takes it. Wrong signatures: have it signed again and import that. "
            f"Too low a fee: `angara payout bump {batch_id}`",
            err=True,
        )


@app.command("bump")
@with_options
def bump(books: SignedBooks, form: ShowForm, batch_id: BatchArgument, fee_rate: RateOption = None) -> None:
    """Make a transaction that replaces the last one and pays more; then export, import, broadcast it."""
    import msgspec

    from pool.admin.payouts.batches import attempt_row
    from pool.cli.opened_paymaster import on_paymaster
    from pool.cli.payouts.tables import btc_and_sat

    made = on_paymaster(books, lambda it, by: it.bump(batch_id, by, fee_rate))
    words = f"batch {batch_id}, attempt {made.attempt}: txid {made.txid}, fee {btc_and_sat(made.fee_sat)}"
    tell(words, {"batch": batch_id} | msgspec.structs.asdict(attempt_row(made)), form)
    if form is Form.TEXT:
        say(f"Next: `angara payout export {batch_id}`")
