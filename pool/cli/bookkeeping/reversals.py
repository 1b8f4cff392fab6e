"""What `angara ledger reverse` tells: a transaction and what is proposed of it, a proposal, and another
person's word.

Must not know: when a transaction may be reversed, and who is who.
"""

from pool.cli.books import Books
from pool.cli.output import Form, iso_time, moment, print_json, say, tell
from pool.reports.figures import amount


def propose(books: Books, seq: int, why: str, form: Form) -> None:
    made = books.ask("reversal.propose", transaction=seq, why=why)
    tell(
        f"proposal {made['proposal']}: {made['proposed_by']} wants transaction {seq} reversed. "
        f"Next: somebody else runs `angara ledger reverse {seq} --confirm {made['proposal']}`",
        made,
        form,
    )


def confirm(books: Books, seq: int, number: int, form: Form) -> None:
    posted = books.ask("reversal.confirm", transaction=seq, proposal=number)
    tell(f"transaction {posted['transaction']} reverses transaction {seq}", posted, form)


def show_reversible(books: Books, seq: int, form: Form) -> None:
    it = books.ask("reversal.show", transaction=seq)
    if form is Form.JSON:
        print_json(it)
        return
    say(f"transaction {it['seq']}, {it['kind']}, {moment(iso_time(it['booked_at_s']))}: {it['memo']}")
    for transfer in it["transfers"]:
        told = f"from {transfer['from_account']} to {transfer['to_account']}"
        say(f"  {amount(transfer['amount_sat']):>24} {told}")
    if it["refused"] is not None:
        say(f"it cannot be reversed: {it['refused']}")
    for proposal in it["proposals"]:
        proposed = moment(iso_time(proposal["proposed_at_s"]))
        say(f"proposal {proposal['id']}, {proposed}, by {proposal['proposed_by']}: {proposal['why']}")
