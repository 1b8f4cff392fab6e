"""What is answered in words and an exit code, and never by a traceback: a mistake of the user, or something
outside that is not as it has to be.

By the names of what is raised: whoever raises it has been imported by then, and nobody else has to be.

Must not know: commands.
"""

from collections.abc import Iterator
from typing import Final

from pool.cli.standard_streams import EXIT_READER_GONE, OutputFailed, ReaderGone
from pool.reports.figures import visible

EXIT_WRONG: Final = (
    1  # somebody has to look at it: books that contradict each other, a transaction in quarantine
)
EXIT_MISTAKE: Final = 2

MISTAKES: Final = {
    "builtins.OSError": EXIT_MISTAKE,
    "pool.admin.client.NoAnswer": EXIT_MISTAKE,
    "pool.books.bookkeeper.BooksFailed": EXIT_MISTAKE,
    "pool.books.edges.leases.EdgeRefused": EXIT_MISTAKE,
    "pool.books.journal.journal.JournalFailed": EXIT_MISTAKE,
    "pool.journal.log.JournalUnusable": EXIT_MISTAKE,
    "pool.journal.segments.JournalDamaged": EXIT_MISTAKE,
    "pool.cli.standard_streams.OutputFailed": EXIT_WRONG,
    "pool.cli.standard_streams.ReaderGone": EXIT_READER_GONE,
    "pool.data_dir.DataDirError": EXIT_MISTAKE,
    "pool.demo_sites.programs.ProgramEnded": EXIT_MISTAKE,
    "pool.fleet.registry_error.RegistryError": EXIT_MISTAKE,
    "pool.regtest.chain.RegtestUnavailable": EXIT_MISTAKE,
    "pool.settings_file.BadConfig": EXIT_MISTAKE,
    "pool.store_error.StoreError": EXIT_MISTAKE,
    "pool.swarm.load.LoadError": EXIT_MISTAKE,
    "pool.treasury.wallet.BadWallet": EXIT_MISTAKE,
    "sqlalchemy.exc.SQLAlchemyError": EXIT_MISTAKE,
    "stratum.miners.listening.certificate.BadCertificate": EXIT_MISTAKE,
    "stratum.miners.listening.listeners.BadEndpoint": EXIT_MISTAKE,
}
# Answers to a command that was given; a bug of ours in a process that runs on.
ANSWERS: Final = {
    "payouts.batches.batch.BatchError": EXIT_MISTAKE,
    "payouts.batches.proposals.ProposalError": EXIT_MISTAKE,
    "payouts.batches.psbt.Quarantined": EXIT_WRONG,
    "payouts.ledger.LedgerError": EXIT_MISTAKE,
    "payouts.proof.reserves.BadReserve": EXIT_MISTAKE,
    "payouts.proof.stamps.BadStamp": EXIT_MISTAKE,
    "payouts.reports.orders.UnknownOrder": EXIT_MISTAKE,
    "payouts.sales.invoices.UnknownInvoice": EXIT_MISTAKE,
    "payouts.statements.money.StatementWrong": EXIT_WRONG,
    "payouts.statements.period.BadPeriod": EXIT_MISTAKE,
    "payouts.statements.statement.UnknownTenant": EXIT_MISTAKE,
    "pool.chain.rpc.NodeError": EXIT_MISTAKE,
    "pool.treasury.coins.TooFewCoins": EXIT_MISTAKE,
}


def exit_code(error: BaseException, *, runs_on: bool) -> int | None:
    """What a command ends with that raised it, whether it answers or runs on; None for a bug, which has its
    traceback. Of several at once the least."""
    table = MISTAKES if runs_on else MISTAKES | ANSWERS
    codes = [next((table[kind] for kind in _kinds(it) if kind in table), None) for it in _leaves(error)]
    known = [code for code in codes if code is not None]
    return min(known) if known and len(known) == len(codes) else None


def in_words(error: BaseException) -> list[str]:
    """One line for each, with what others chose of it made visible. Who has read enough is told nothing."""
    return [f"angara: {visible(_words(it))}" for it in _leaves(error) if not isinstance(it, ReaderGone)]


def output_failed(error: BaseException) -> bool:
    """Whether it is what the command tells that cannot be written."""
    return any(isinstance(it, OutputFailed) for it in _leaves(error))


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:  # its text would begin with "[Errno 13]"
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    kinds = set(_kinds(error))
    if "payouts.batches.psbt.Quarantined" in kinds:
        return f"quarantined, nothing is sent: {error}"
    if "payouts.statements.money.StatementWrong" in kinds:
        return f"{error}: run `angara ledger verify`"
    if "sqlalchemy.exc.SQLAlchemyError" in kinds:
        return f"the database does not do its work: {_line(getattr(error, 'orig', None) or error)}"
    return _line(error)


def _line(error: object) -> str:
    """What a database says in lines is one."""
    return " ".join(str(error).split("\n")).replace("\t", "")


def _kinds(error: BaseException) -> Iterator[str]:
    return (f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error
