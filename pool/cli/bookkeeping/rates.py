"""`angara rate`: the price of work."""

from fractions import Fraction
from typing import Annotated

import typer

from payouts.rates import BadRate, quote
from pool.cli.options import ShowForm, with_options
from pool.cli.output import Form, print_json
from pool.settings_file import BadConfig

app = typer.Typer(no_args_is_help=True)


@app.command("quote")
@with_options
def rate_quote(
    form: ShowForm,
    nbits: Annotated[str, typer.Option(help="nBits of the job, in hex.")],
    height: Annotated[int, typer.Option(help="Height of the job.")],
    difficulty: Annotated[str, typer.Option(help="Assigned share difficulty: 65536, 0.5 or 1/4294967296.")],
    shares: Annotated[int, typer.Option(help="How many shares.")],
    fee_bps: Annotated[int, typer.Option(help="Fee of the pool in basis points.")],
    block_fees_sat: Annotated[int, typer.Option(help="Usual fees of a block, for FPPS.")] = 0,
) -> None:
    """What shares are worth, exactly: SAT CARRY_PSAT, whole satoshi and the rest in 10^-12 satoshi."""
    try:
        bits = int(nbits, 16)
    except ValueError:
        raise BadConfig(f"--nbits: {nbits!r:.40} is not in hex, like 1d00ffff") from None
    try:
        each = Fraction(difficulty)
    except (ValueError, ZeroDivisionError):
        raise BadConfig(f"--difficulty: {difficulty!r:.40} is not like 65536, 0.5 or 1/4294967296") from None
    try:
        amount = quote(
            nbits=bits,
            height=height,
            difficulty=each,
            shares=shares,
            fee_bps=fee_bps,
            block_fees_sat=block_fees_sat,
        )
    except (BadRate, ValueError) as error:
        raise BadConfig(f"there is no such price: {error}") from None
    if form is Form.JSON:
        print_json({"sat": amount.sat, "carry_psat": amount.carry_psat})
    else:
        typer.echo(f"{amount.sat} {amount.carry_psat}")
