"""`angara payout`: batches from the draft to the sixth confirmation, and agreement with the chain.

    preview, create           who would be paid, and a draft of it
    approve                   by somebody else, for the digest that `show` prints, with a cap for the fee
    export, import            a PSBT for the signer, and what it returned
    broadcast, follow, bump   send it, look after it, pay more
    cancel                    before a signer has it
    reconcile                 after a backup was restored, or coins were moved
    disown                    what was booked as a payout, and spends no coin of ours

A command that was cut off is given again. Mistakes are answered in words and exit code 2; what needs
somebody to look at it (quarantine, a chain that the books do not explain) with exit code 1.

Must not know: how any of it is done.
"""

import base64
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Final, TypeVar

import trio
import typer

from payouts.batches.batch import UNDER_WAY, Batch, SettlementError, State, batches_in, load
from payouts.batches.plan import Plan, ScriptOf, plan
from payouts.batches.proposals import ProposalError
from payouts.batches.psbt import TEXT_BYTES_MAX, Quarantined
from payouts.ledger import LedgerError
from pool.admin.client import borrow_lease
from pool.books.book import bound_network
from pool.books.store import DATABASE_ERRORS, Store, open_store, words_of
from pool.chain.addresses import script_for
from pool.chain.nodes import Node
from pool.chain.rpc import NodeError
from pool.cli.command_line import operator, print_table, say
from pool.cli.options import ConfigOption, DatabaseOption, DataDirOption, books_of
from pool.config import BadConfig, load_config
from pool.treasury.books import PayoutBooks
from pool.treasury.chain_node import Answer, PayoutNodes
from pool.treasury.coins import TooFewCoins
from pool.treasury.paymaster import Paymaster
from pool.treasury.settings import MINIMUM_SAT_DEFAULT
from pool.treasury.wallet import BadWallet, PayoutWallet

EXIT_WRONG: Final = 1
EXIT_MISTAKE: Final = 2
FOLLOW_EVERY_S: Final = 30.0
DEFAULT_CONFIG: Final = Path("angara.toml")

app = typer.Typer(help="Payout batches: one payment on the chain to many tenants.", no_args_is_help=True)

BatchArgument = Annotated[int, typer.Argument(min=1, help="Number of the batch.")]
AsOption = Annotated[str | None, typer.Option("--as", help="Who does this; the system's user by default.")]
RateOption = Annotated[
    int | None, typer.Option("--fee-rate", help="Fee in sat/vB, in place of the settings.")
]

_Result = TypeVar("_Result")


@app.command("preview")
def preview(
    config: ConfigOption = None, data_dir: DataDirOption = None, database: DatabaseOption = None
) -> None:
    """Who would be paid now, and who is held back and why. Changes nothing."""
    with _in_words(), _opened(config, data_dir, database) as (store, network):
        minimum_sat = MINIMUM_SAT_DEFAULT
        script_of: ScriptOf = partial(script_for, network=network)
        if data_dir is None and (settings := load_config(config or DEFAULT_CONFIG).payouts) is not None:
            minimum_sat = settings.minimum_sat
            script_of = PayoutWallet(settings, network).script_of_others(script_of)
        with store.read() as connection:
            planned = plan(connection, int(time.time()), script_of, minimum_sat)
        _print_plan(planned)


@app.command("create")
def create(
    by: AsOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Draft a batch of what is payable. The balances are held until it is paid or cancelled."""
    batch = _command(lambda it: it.create(_person(by)), config, data_dir, database)
    _print_batch(batch)
    say(f"Next: somebody else runs `angara payout approve {batch.id} --digest {batch.digest} ...`")


@app.command("approve")
def approve(
    batch_id: BatchArgument,
    digest: Annotated[str, typer.Option(help="The digest of the outputs that are approved, from `show`.")],
    fee_cap_sat: Annotated[int, typer.Option(help="Most that the network may be paid, in satoshi.")],
    by: AsOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Approve a batch that somebody else drafted, or a higher fee cap for it."""
    person = _person(by)
    batch = _command(
        lambda it: it.approve(batch_id, digest.lower(), fee_cap_sat, person), config, data_dir, database
    )
    say(f"batch {batch.id} is {batch.state}, approved by {person}, fee cap {_amount(fee_cap_sat)}")


@app.command("cancel")
def cancel(
    batch_id: BatchArgument,
    by: AsOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Call off a batch that no signer ever had. Its balances are payable again."""
    batch = _command(lambda it: it.cancel(batch_id, _person(by)), config, data_dir, database)
    say(f"batch {batch.id} is {batch.state}: {_amount(batch.total_sat)} are payable again")


@app.command("export")
def export(
    batch_id: BatchArgument,
    out: Annotated[Path | None, typer.Option(help="File for the PSBT; standard output without.")] = None,
    fee_rate: RateOption = None,
    by: AsOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Write the PSBT for the signer (base64). From now on only the chain can end the batch."""
    found = _command(lambda it: it.export(batch_id, _person(by), fee_rate), config, data_dir, database)
    text = base64.b64encode(found.psbt).decode() + "\n"
    words = f"batch {batch_id}, attempt {found.attempt}: txid {found.txid}, fee {_amount(found.fee_sat)}"
    with _in_words():
        if out is None:
            sys.stdout.write(text)
        else:
            _write_whole(out, text)
            words += f", written to {out}"
    say(words, err=True)


@app.command("import")
def import_signed(
    batch_id: BatchArgument,
    file: Annotated[Path, typer.Argument(help="The signed PSBT or transaction: binary, base64 or hex.")],
    by: AsOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Take back what was signed. Whatever is not exactly what was exported is quarantined."""
    with _in_words(), file.open("rb") as source:
        data = source.read(TEXT_BYTES_MAX + 1)
    found = _command(lambda it: it.take(batch_id, data, _person(by)), config, data_dir, database)
    news = "is signed" if found.fresh else "was signed before, nothing is changed"
    if found.replaced:
        news = "is signed anew: no node would ever have taken the signatures of before"
    say(f"batch {batch_id}, attempt {found.attempt}: {found.txid} {news}")
    if found.warning is not None:
        say(f"the node would not take it now: {found.warning}", err=True)


@app.command("broadcast")
def broadcast(
    batch_id: BatchArgument,
    by: AsOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Send the signed transaction to every node; again, as often as is wanted."""
    answers = _command(lambda it: it.broadcast(batch_id, _person(by)), config, data_dir, database)
    for it in answers:
        say(f"node {it.node}: {it.answer} {it.words}".rstrip())
    if all(it.answer is Answer.UNKNOWN for it in answers):
        say("no node answered: it may be on its way all the same, `angara payout follow` sends it again")
    if all(it.answer is Answer.REFUSED for it in answers):
        say(
            "no node takes it. Wrong signatures: have it signed again and import that. "
            f"Too low a fee: `angara payout bump {batch_id}`",
            err=True,
        )


@app.command("bump")
def bump(
    batch_id: BatchArgument,
    fee_rate: RateOption = None,
    by: AsOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Make a transaction that replaces the last one and pays more; then export, import, broadcast it."""
    made = _command(lambda it: it.bump(batch_id, _person(by), fee_rate), config, data_dir, database)
    say(f"batch {batch_id}, attempt {made.attempt}: txid {made.txid}, fee {_amount(made.fee_sat)}")
    say(f"Next: `angara payout export {batch_id}`")


@app.command("show")
def show(
    batch_id: BatchArgument,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """One batch: outputs and digest, approvals, transactions."""
    with _in_words(), _opened(config, data_dir, database) as (store, _):
        with store.read() as connection:
            batch = load(connection, batch_id)
        _print_batch(batch)


@app.command("list")
def list_batches(
    config: ConfigOption = None, data_dir: DataDirOption = None, database: DatabaseOption = None
) -> None:
    """All batches, the newest last."""
    with _in_words(), _opened(config, data_dir, database) as (store, _):
        with store.read() as connection:
            batches = batches_in(connection)
        print_table(
            ("batch", "state", "payees>", "BTC>", "sat>", "fee sat>", "txid"), [_listed(it) for it in batches]
        )


@app.command("follow")
def follow(
    once: Annotated[bool, typer.Option("--once", help="One look, in place of until all are final.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Look after the batches that are sent: send them again, book what the chain says."""

    async def look(paymaster: Paymaster) -> None:
        while True:
            survey = await paymaster.follower.survey()
            for news in survey.news:
                say(news)
            for trouble in survey.trouble_words:
                say(trouble, err=True)
            if once or not await paymaster.under_way():
                return
            await trio.sleep(FOLLOW_EVERY_S)

    _command(look, config, data_dir, database)


@app.command("reconcile")
def reconcile(
    accept: Annotated[
        list[str] | None,
        typer.Option(
            help="A transaction that you looked at, and know whom it pays; several times for several. "
            "Somebody else has to say so too."
        ),
    ] = None,
    by: AsOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Make the books agree with the chain, after a backup was restored or coins were moved."""
    done, open_questions = _command(
        lambda it: it.reconciler.run(_person(by), accept or ()), config, data_dir, database
    )
    for words in done:
        say(words)
    for words in open_questions:
        say(words, err=True)
    if open_questions:
        raise typer.Exit(EXIT_WRONG)
    say("the books agree with the chain")


@app.command("disown")
def disown(
    batch_id: BatchArgument,
    by: AsOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Say that a batch was never paid by the transaction in its place: that spends no coin of the wallet.

    It takes two persons; where the wallet was another one at that time, it is no mistake. What `reconcile`
    booked in earlier versions may be one.
    """
    person = _person(by)
    batch = _command(lambda it: it.disown(batch_id, person), config, data_dir, database)
    if batch is None:
        say(f"{person} says so. Next: somebody else runs `angara payout disown {batch_id}`")
    else:
        say(f"batch {batch_id} is {batch.state}: {_amount(batch.total_sat)} are payable again")


def _command(
    job: Callable[[Paymaster], Awaitable[_Result]],
    config: Path | None,
    data_dir: Path | None,
    database: str | None,
) -> _Result:
    """What a command on a paymaster answers; it needs the settings, for the nodes and the descriptors."""
    with _in_words():
        if data_dir is not None:
            raise BadConfig("this needs the nodes and [payouts] of the settings: give --config")
        settings = load_config(config or DEFAULT_CONFIG)
        payouts = settings.payouts
        if payouts is None:
            raise BadConfig("the settings have no [payouts]: descriptor and change_descriptor are needed")
        wallet = PayoutWallet(payouts, settings.network)
        with _opened(config, data_dir, database) as (store, network):

            async def run() -> _Result:
                nodes = [Node(it) for it in settings.nodes]
                try:
                    return await job(
                        Paymaster(
                            PayoutBooks(store, lambda: int(time.time())),
                            PayoutNodes(nodes, network),
                            wallet,
                            payouts,
                            lambda address: script_for(address, network),
                        )
                    )
                finally:
                    with trio.CancelScope(shield=True):
                        for node in nodes:
                            await node.aclose()

            return trio.run(run)


@contextmanager
def _opened(config: Path | None, data_dir: Path | None, database: str | None) -> Iterator[tuple[Store, str]]:
    """The database that the options name, to write beside the pool that runs on it, and its network."""
    books = books_of(config, data_dir, database)
    store = open_store(books.database_url)
    try:
        borrow_lease(store, books.data_dir)
        yield store, bound_network(store, books.network) or ""  # a book without one has no payouts
    finally:
        store.close()


@contextmanager
def _in_words() -> Iterator[None]:
    """What can go wrong, in words."""
    try:
        yield
    except Quarantined as wrong:
        say(f"angara: quarantined, nothing is sent: {wrong}", err=True)
        raise typer.Exit(EXIT_WRONG) from None
    except (
        BadConfig,
        BadWallet,
        LedgerError,
        NodeError,
        OSError,
        ProposalError,
        SettlementError,
        TooFewCoins,
        *DATABASE_ERRORS,
    ) as mistake:
        say(f"angara: {words_of(mistake)}", err=True)
        raise typer.Exit(EXIT_MISTAKE) from None


def _person(by: str | None) -> str:
    """Who does it: whoever runs this, where nobody is named."""
    return by if by is not None else operator()


def _write_whole(path: Path, text: str) -> None:
    """A file that is complete or not there, for its owner alone."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", delete=False) as draft:
        try:
            draft.write(text)
            draft.flush()
            os.fsync(draft.fileno())
            os.replace(draft.name, path)
        except BaseException:
            os.unlink(draft.name)
            raise


def _listed(batch: Batch) -> tuple[object, ...]:
    """A batch in a line, with the transaction that is in the chain, or the newest."""
    newest = batch.attempts[-1] if batch.attempts else None
    sent = next((it for it in reversed(batch.attempts) if it.block_hash), newest)
    return (
        *(batch.id, batch.state, len(batch.items), _btc(batch.total_sat), batch.total_sat),
        *(("", "") if sent is None else (sent.fee_sat, sent.txid)),
    )


def _print_plan(planned: Plan) -> None:
    print_table(
        ("tenant", "address", "BTC>", "sat>"),
        [(it.tenant, it.address, _btc(it.amount_sat), it.amount_sat) for it in planned.items],
    )
    say(f"{len(planned.items)} payees, {_amount(planned.total_sat)}")
    if planned.held_back:
        print_table(
            ("held back", "sat>", "why"),
            [
                (it.tenant, it.balance_sat, ": ".join(filter(None, (it.reason, it.detail))))
                for it in planned.held_back
            ],
        )


def _print_batch(batch: Batch) -> None:
    say(f"batch {batch.id} is {batch.state}, drafted by {batch.created_by}")
    say(f"digest {batch.digest}")
    print_table(
        ("output>", "tenant", "address", "BTC>", "sat>"),
        [(it.position, it.tenant, it.address, _btc(it.amount_sat), it.amount_sat) for it in batch.items],
    )
    say(f"{len(batch.items)} payees, {_amount(batch.total_sat)}")
    for approval in batch.approvals:
        say(f"approved by {approval.approved_by}, fee cap {_amount(approval.fee_cap_sat)}")
    for it in batch.attempts:
        where = f", in block {it.block_hash} at height {it.block_height}" if it.block_hash else ""
        say(f"attempt {it.attempt} is {it.state}: txid {it.txid}, fee {_amount(it.fee_sat)}{where}")
        if it.quarantine_reason:
            say(f"  {it.quarantine_reason}")
    if batch.state in UNDER_WAY and batch.state is not State.CONFIRMED and batch.attempts:
        anchor = batch.attempts[0].anchor
        say(f"anchor {anchor.txid}:{anchor.vout}")


def _btc(sat: int) -> str:
    return f"{sat // 100_000_000}.{sat % 100_000_000:08d}"


def _amount(sat: int) -> str:
    return f"{_btc(sat)} BTC ({sat} sat)"
