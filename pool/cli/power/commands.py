"""`angara power`: what is drawn, by which machines, and what is known of it. Each noun has a file.

Must not know: what a command does.
"""

import typer

from pool.cli.power import limits, meters, models
from pool.cli.power.now import now, suspects
from pool.cli.power.signals import signals

app = typer.Typer(no_args_is_help=True)
app.command("now")(now)
app.command("suspects")(suspects)
app.command("signals")(signals)
app.add_typer(models.app, name="model", help="Which machine is which model, and what its nameplate says.")
app.add_typer(meters.app, name="meter", help="Meters before sites and containers, and their readings.")
app.add_typer(limits.app, name="limit", help="What a site or a container may draw at most, and until when.")
