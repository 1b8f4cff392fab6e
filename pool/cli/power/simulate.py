"""`angara power simulate`: machines that mine, and that can be told to pause, without any hardware.

Invariant: they mine at this host alone. Must not know: how machines speak.
"""

import sys
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated

import typer

from pool.cli.options import SEED_MAX, number
from pool.cli.output import say
from pool.cli.power.figures import kilowatts
from pool.settings_file import BadConfig
from pool.whole_file import write_whole

TOLD_S = 10.0


def simulate(
    server: Annotated[str, typer.Argument(metavar="HOST:PORT", help="A pool of yours on this host.")],
    table: Annotated[
        Path, typer.Option(help="Where to write their addresses, for `angara power address import`.")
    ],
    models: Annotated[
        Path | None, typer.Option(help="And what they draw, for `angara power model import`.")
    ] = None,
    machines: Annotated[int, typer.Option(min=1, max=20_000, help="How many.")] = 100,
    firmware: Annotated[
        list[str] | None, typer.Option(help="What they run, several in turn; braiins without.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose they are.")] = "acme",
    api_port: Annotated[int, typer.Option(min=1024, max=65_535, help="At which each can be told.")] = 4028,
    liars: Annotated[int, typer.Option(min=0, help="So many say that they are paused, and mine on.")] = 0,
    sleepers: Annotated[int, typer.Option(min=0, help="So many do not wake.")] = 0,
    refusers: Annotated[int, typer.Option(min=0, help="So many refuse.")] = 0,
    late: Annotated[int, typer.Option(min=0, help="So many take 20 s for an answer.")] = 0,
    watts: Annotated[
        int, typer.Option(min=100, max=100_000, help="That one draws; of some containers a little less.")
    ] = 3_250,
    hashrate: Annotated[
        float,
        number(10, 1_000_000, "Hashes a second that each really makes."),
    ] = 100.0,
    seed: Annotated[int, typer.Option(min=0, max=SEED_MAX, help="Of everything that is left to chance.")] = 1,
) -> None:
    """Simulated machines at 127.64.0.1 and so on, until it is stopped: for a first dry run.

    They really hash, so the pool has to ask for little: see docs/power.md."""
    import trio

    from pool.swarm.load import LoadError
    from pool.swarm.machine_api import PASSWORDS, SPEAKS, Temper
    from pool.swarm.simulated_site import SimulatedSite, SiteOptions

    host, _, port = server.rpartition(":")
    try:
        host = str(IPv4Address("127.0.0.1" if host == "localhost" else host))
        here = IPv4Address(host).is_loopback and 0 < int(port) < 65_536
    except ValueError:
        here = False
    if not here:
        raise BadConfig(f"{server:.80}: they mine at this host alone, like 127.0.0.1:3333")
    chosen = tuple(firmware or ("braiins",))
    unknown = [it for it in chosen if it not in SPEAKS]
    if unknown:
        raise BadConfig(f"--firmware: {unknown[0]:.40} is none of {', '.join(SPEAKS)}")
    tempers = {Temper.LIES: liars, Temper.SLEEPS_ON: sleepers, Temper.REFUSES: refusers, Temper.LATE: late}
    if sum(tempers.values()) > machines:
        raise BadConfig("--liars, --sleepers, --refusers, --late: together they are more than all machines")
    options = SiteOptions(
        host=host,
        port=int(port),
        api_port=api_port,
        machines=machines,
        tenant=tenant,
        firmware=chosen,
        tempers=tempers,
        hashrate_hps=hashrate,
        watts=watts,
        seed=seed,
    )
    try:
        site = SimulatedSite(options)
    except LoadError as error:
        raise BadConfig(f"--machines: {error}") from None
    _write("--table", table, "tenant,container,unit,address,port,firmware", site.addresses())
    if models is not None:
        _write(
            "--models",
            models,
            "tenant,container,ths,watts,idle_watts,joules_per_th,error_percent",
            site.models(),
        )
    for name, (user, password) in PASSWORDS.items():
        if name in chosen:
            say(f"{name}: user {user}, password {password}")

    async def tell() -> None:
        while True:
            await trio.sleep(TOLD_S)
            it = site.counts
            say(
                f"{it.mining} mine, {site.paused} are off; they draw {kilowatts(site.watts)};"
                f" {it.accepted} shares accepted, {it.rejected} not"
            )
            sys.stdout.flush()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(site.run)
            say(f"{machines} machines, addresses in {table}; ctrl-C ends them")
            sys.stdout.flush()
            await tell()

    try:
        trio.run(main)
    except* KeyboardInterrupt:
        pass
    except* OSError as errors:
        failed = errors.exceptions[0]
        raise BadConfig(f"--api-port {api_port}: {getattr(failed, 'strerror', None) or failed}") from None


def _write(option: str, file: Path, head: str, rows: Iterable[Sequence[object]]) -> None:
    lines = [head, *(",".join(map(str, row)) for row in rows), ""]
    try:
        write_whole(file, "\n".join(lines).encode())
    except OSError as error:
        raise BadConfig(f"{option}: {file}: {error.strerror}") from None
