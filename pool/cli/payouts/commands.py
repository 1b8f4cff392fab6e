"""`angara payout`: batches from the draft to the sixth confirmation, and agreement with the chain.

    preview, create           who would be paid, and a draft of it
    approve                   by somebody else, for the digest that `show` prints, with a cap for the fee
    cancel                    before a signer has it
    export, import            a PSBT for the signer, and what it returned
    broadcast, bump           send it, pay more
    follow                    look after what is sent
    reconcile                 after a backup was restored, or coins were moved
    accept, proposals         a second person's word for what was found then, and what waits for one
    disown                    what was booked as a payout, and spends no coin of ours

A command that was cut off is given again. Mistakes are answered in words and exit code 2; what needs
somebody to look at it (quarantine, a chain that the books do not explain) with exit code 1.

Must not know: how any of it is done.
"""

import typer

from pool.cli.payouts import batches, chain, transactions

app = typer.Typer(no_args_is_help=True)
for part in (batches, transactions, chain):
    app.add_typer(part.app)
