"""`angara power simulate`: machines that mine, and that can be told to pause, without any hardware.

Invariant: they mine at this host alone. Must not know: how machines speak.
"""

import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from pool.cli.output import say
from pool.settings_file import BadConfig
from pool.whole_file import write_whole

TOLD_S = 10.0


def simulate(
    server: Annotated[str, typer.Argument(metavar="HOST:PORT", help="A pool of yours on this host.")],
    table: Annotated[
        Path, typer.Option(help="Where to write their addresses, for `angara power address import`.")
    ],
    machines: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 100,
    firmware: Annotated[
        list[str] | None, typer.Option(help="What they run, several in turn; braiins without.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose they are.")] = "acme",
    api_port: Annotated[int, typer.Option(min=1024, max=65_535, help="At which each can be told.")] = 4028,
    liars: Annotated[int, typer.Option(min=0, help="So many say that they are paused, and mine on.")] = 0,
    sleepers: Annotated[int, typer.Option(min=0, help="So many do not wake.")] = 0,
    refusers: Annotated[int, typer.Option(min=0, help="So many refuse.")] = 0,
    shares_per_minute: Annotated[float, typer.Option(min=0.1, max=600, help="Of each.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is left to chance.")] = 1,
) -> None:
    """Simulated machines at 127.64.0.1 and so on, until it is stopped: for a first dry run.

    They really hash, so the pool has to ask for little: see docs/swarm.md."""
    import trio

    from pool.swarm.fleet import SwarmOptions
    from pool.swarm.machine_api import PASSWORDS, SPEAKS, Temper
    from pool.swarm.simulated_site import SimulatedSite, SiteOptions

    host, _, port = server.rpartition(":")
    try:
        here = ip_address("127.0.0.1" if host == "localhost" else host).is_loopback and 0 < int(port) < 65_536
    except ValueError:
        here = False
    if not here:
        raise BadConfig(f"{server:.80}: they mine at this host alone, like 127.0.0.1:3333")
    chosen = tuple(firmware or ("braiins",))
    unknown = [it for it in chosen if it not in SPEAKS]
    if unknown:
        raise BadConfig(f"--firmware: {unknown[0]:.40} is none of {', '.join(SPEAKS)}")
    if liars + sleepers + refusers > machines:
        raise BadConfig("--liars, --sleepers and --refusers: together they are more than all machines")
    site = SimulatedSite(
        SiteOptions(
            swarm=SwarmOptions(
                host="127.0.0.1" if host == "localhost" else host,
                port=int(port),
                miners=machines,
                tenants=(tenant,),
                shares_per_minute=shares_per_minute,
                containers=max(1, machines // 400),
                seed=seed,
            ),
            api_port=api_port,
            firmware=chosen,
            tempers={Temper.LIES: liars, Temper.SLEEPS_ON: sleepers, Temper.REFUSES: refusers},
        )
    )
    rows = ["tenant,container,unit,address,port,firmware"]
    rows += [",".join(map(str, row)) for row in site.table()]
    try:
        write_whole(table, "\n".join([*rows, ""]).encode())
    except OSError as error:
        raise BadConfig(f"--table: {table}: {error.strerror}") from None
    for name, (user, password) in PASSWORDS.items():
        if name in chosen:
            say(f"{name}: user {user}, password {password}")

    async def tell() -> None:
        while True:
            await trio.sleep(TOLD_S)
            counts = site.stats
            say(f"{counts.connected} mine, {site.paused} do not; {counts.accepted} shares accepted")
            sys.stdout.flush()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(site.run)
            say(f"{machines} machines, addresses in {table}; ctrl-C ends them")
            await tell()

    try:
        trio.run(main)
    except* KeyboardInterrupt:
        pass
    except* OSError as errors:
        raise BadConfig(f"--api-port {api_port}: {errors.exceptions[0]}") from None
