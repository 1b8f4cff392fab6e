"""`angara demo --sites N`: that many edges, three NATS servers, a hub and machines that really hash; what is
broken between them (`--break`) heals, and is proven.

All but the machines and the node are the programs that an operator runs, each in a process of its own.
"""

from pathlib import Path
from typing import Final

import msgspec
import trio
from rich.console import Console

from pool.data_dir import held
from pool.demo import refuse_others
from pool.demo_sites.breaks import play
from pool.demo_sites.broken import Break
from pool.demo_sites.programs import nats_server
from pool.demo_sites.proof import Proof
from pool.demo_sites.screen import Screen
from pool.demo_sites.sites import BOOKED_S, SITES, Sites
from pool.settings_file import BadConfig

SITES_MAX: Final = len(SITES)


class SitesOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Edges take miners at `port` and those after it; 0: wherever there is room."""

    host: str
    port: int
    data_dir: Path
    sites: int
    broken: Break | None = None


async def run_sites(options: SitesOptions, console: Console) -> bool:
    """Until cancelled, or until what was to be broken has healed: whether that is proven. Raises BadConfig,
    DataDirError and ProgramEnded."""
    if options.broken is Break.EDGE and options.sites == 1:
        raise BadConfig("--break edge: with one site alone its machines have nowhere to go: give --sites 2")
    refuse_others(options.data_dir)
    binary = nats_server()
    home, relays = options.data_dir / "sites", options.broken is Break.LINK
    title = f"Angara demo: {options.sites} sites, one book"
    proven, words = True, ""
    with held(options.data_dir):
        home.mkdir(exist_ok=True)
        sites = Sites(home, binary, options.sites, options.host, options.port, through_relays=relays)
        screen = Screen(console, sites, title)
        async with trio.open_nursery() as nursery:
            try:
                nursery.start_soon(screen.run)
                screen.say("three NATS servers, a hub and the edges start: some seconds")
                await sites.begin(nursery)
                screen.show(f"the page, to look at: {sites.page}")
                screen.say(f"all serve, and machines mine. What each says is in {home}/*/log")
                if options.broken is None:
                    await trio.sleep_forever()
                else:
                    healed = await play(sites, options.broken, screen.say)
                    proof = await _prove(sites, screen)
                    proven, words = healed and proof.holds, proof.words
            finally:
                with trio.CancelScope(shield=True):
                    await sites.end()
            nursery.cancel_scope.cancel()
    screen.show(f"{words}\n{'PROVEN' if proven else 'NOT PROVEN'}: --break {options.broken}")
    return proven


async def _prove(sites: Sites, screen: Screen) -> Proof:
    screen.say("the machines stop, and the books take the rest")
    await sites.machines.stop()
    if not await sites.all_is_booked():
        screen.say(f"NOT AS IT SHOULD BE: in {BOOKED_S:.0f} s the books have not got all that is on disk")
    return await sites.proof()
