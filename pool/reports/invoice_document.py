"""An invoice as a document: whom it is for, what is to be paid until when, and every hour of it.

Invariants: every figure is the invoice's own, so the same invoice has the same bytes, paid or not. Must not
know: the database, and any format.
"""

from datetime import date, timedelta

from msgspec import UNSET

from payouts.sales.invoices import Invoice, InvoiceLine, InvoiceProof
from pool.reports.cells import amount, count, exact, moment, work
from pool.reports.document import (
    Block,
    Cell,
    Column,
    Document,
    Fact,
    Facts,
    Prose,
    Section,
    Table,
    period_in_words,
    text,
)

WHOLE = (
    "An hour's work is priced exactly. Each line posts whole satoshi of its amount and of what the lines of"
    " the order before it had left; what is below one satoshi is carried to the next, of this invoice or of a"
    " later one. Part 1 and later are work of an hour that reached the books after the hour was charged."
)


def invoice_document(invoice: Invoice, proof: InvoiceProof | None) -> Document:
    """`proof`: who signed it, where it is signed."""
    first, last = date.fromisoformat(invoice.from_utc[:10]), _day_after(invoice.to_utc)
    return Document(
        title=f"Invoice {invoice.number}",
        subject=text(invoice.buyer).text,
        period=period_in_words(str(first), str(max(last, first + timedelta(days=1)))),
        ends=date.fromisoformat(invoice.issued_utc[:10]),
        sections=(
            Section(title=None, blocks=(_head(invoice),)),
            Section(title="Hours", blocks=(Prose(text=WHOLE), _lines(invoice))),
            Section(title="How to check this invoice", blocks=(_proof(invoice, proof),)),
        ),
        name="invoice",
        data=invoice,
        content_hash=invoice.content_hash,
        proof=proof,
    )


def _head(invoice: Invoice) -> Block:
    return Facts(
        key="invoice",
        facts=(
            Fact(key="buyer", label="Buyer", cell=text(invoice.buyer)),
            Fact(key="order", label="Order", cell=text(invoice.order)),
            Fact(key="from_utc", label="From (UTC)", cell=moment(invoice.from_utc)),
            Fact(key="to_utc", label="To (UTC)", cell=moment(invoice.to_utc)),
            Fact(key="issued_utc", label="Issued (UTC)", cell=moment(invoice.issued_utc)),
            Fact(key="due_utc", label="To be paid until (UTC)", cell=moment(invoice.due_utc), strong=True),
            Fact(key="sat_per_ph_day", label="Price (sat per PH·day)", cell=count(invoice.sat_per_ph_day)),
            Fact(key="amount_sat", label="To be paid (sat)", cell=count(invoice.amount_sat), strong=True),
            Fact(key="amount_btc", label="the same in BTC", cell=amount(invoice.amount_sat), part=True),
            *_address(invoice),
        ),
    )


def _address(invoice: Invoice) -> tuple[Fact, ...]:
    if invoice.address is UNSET:
        return ()
    label = "Address of this order alone, to pay to on the chain"
    return (Fact(key="address", label=label, cell=text(invoice.address)),)


def _lines(invoice: Invoice) -> Table:
    return Table(
        key="lines",
        columns=(
            Column(key="hour_utc", title="Hour from (UTC)"),
            Column(key="kind", title="What"),
            Column(key="part", title="Part", right=True),
            Column(key="work", title="Work (sum of difficulty)", right=True),
            Column(key="amount", title="Amount (sat)", right=True),
            Column(key="carried", title="Carried (sat)", right=True),
            Column(key="posted_sat", title="Posted (sat)", right=True),
        ),
        rows=tuple(_line(it) for it in invoice.lines),
        total=(
            Cell("Total", "total"),
            *(Cell("", None) for _ in range(5)),
            count(invoice.amount_sat),
        ),
    )


def _line(it: InvoiceLine) -> tuple[Cell, ...]:
    return (
        moment(it.hour_utc),
        Cell(it.kind.replace("_", " "), it.kind),
        count(it.part),
        work(it.work),
        exact(it.amount_psat),
        exact(it.carry_in_psat),
        count(it.posted_sat),
    )


def _proof(invoice: Invoice, proof: InvoiceProof | None) -> Block:
    signed = (
        (Fact(key="signature", label="Signed", cell=text("it is not")),)
        if proof is None
        else (
            Fact(key="key", label="Signed by the key", cell=text(proof.key)),
            Fact(key="signature", label="Signature (BIP340)", cell=text(proof.signature)),
        )
    )
    sha256 = Fact(key="content_sha256", label="SHA-256 of its data as JSON", cell=text(invoice.content_hash))
    return Facts(key="proof", facts=(sha256, *signed))


def _day_after(utc: str) -> date:
    """The first day that begins at that moment or after it."""
    day = date.fromisoformat(utc[:10])
    return day if utc[11:19] == "00:00:00" else day + timedelta(days=1)
