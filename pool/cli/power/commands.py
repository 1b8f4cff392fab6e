"""`angara power`: what is drawn, by which machines, and what is known of it. Each noun has a file.

Must not know: what a command does.
"""

import typer

from pool.cli.power import (
    addresses,
    credentials,
    events,
    hosting,
    limits,
    meters,
    models,
    prices,
    terms,
)
from pool.cli.power.held import forget, held
from pool.cli.power.minutes import minutes
from pool.cli.power.now import now, suspects
from pool.cli.power.signals import signals
from pool.cli.power.simulate import simulate
from pool.cli.power.told import read, reduce

app = typer.Typer(no_args_is_help=True)
app.command("now")(now)
app.command("minutes")(minutes)
app.command("suspects")(suspects)
app.command("signals")(signals)
app.command("held")(held)
app.command("forget")(forget)
app.command("read")(read)
app.command("reduce")(reduce)
app.command("simulate")(simulate)
app.command("plan")(events.plan)
app.command("curtail")(events.curtail)
app.command("restore")(events.restore)
app.command("release")(events.release)
app.command("events")(events.events)
app.command("show")(events.show_event)
app.add_typer(terms.terms_app, name="terms", help="What tenants may be asked for in an event.")
app.add_typer(terms.exempt_app, name="exempt", help="Machines that no event asks.")
app.add_typer(models.app, name="model", help="Which machine is which model, and what its nameplate says.")
app.add_typer(meters.app, name="meter", help="Meters before sites and containers, and their readings.")
app.add_typer(limits.app, name="limit", help="What a site or a container may draw at most, and until when.")
app.add_typer(prices.tariffs, name="tariff", help="What a kWh costs.")
app.add_typer(prices.exchange, name="price", help="What a currency is worth in satoshi.")
app.add_typer(hosting.hosting, name="hosting", help="Who pays for energy, by what, and what is due.")
app.add_typer(hosting.carbon, name="carbon", help="What a kWh is in carbon.")
app.add_typer(hosting.grid, name="grid-payment", help="What the grid paid for curtailments.")
app.add_typer(addresses.app, name="address", help="Where machines are on their own network.")
app.add_typer(credentials.app, name="credential", help="Passwords of machines, sealed.")
