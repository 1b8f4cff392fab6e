"""What a reader of several sites sees: news, and below them a table of edges, NATS and hub; lines where the
output is no terminal.

Must not know: what is going to happen.
"""

import time
from collections.abc import Iterator
from typing import Final

import trio
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pool.demo_sites.programs import State
from pool.demo_sites.sites import Sites

TABLE_S: Final = 0.5
LINE_S: Final = 5.0  # between two lines


class Screen:
    """Of one demo."""

    def __init__(self, console: Console, sites: Sites, title: str) -> None:
        self._console, self._sites, self._title = console, sites, title
        self._started_s = time.monotonic()

    def say(self, words: str) -> None:
        """Something happened."""
        self.show(f"{self._clock()}  {words}")

    def show(self, words: str) -> None:
        """A line, above the table, or below it when that is over."""
        self._console.print(Text(words), soft_wrap=True)

    async def run(self) -> None:
        """Until cancelled."""
        if not self._console.is_terminal:
            while True:
                await trio.sleep(LINE_S)
                self.show(self._line())
        with Live(self._picture(), console=self._console, auto_refresh=False) as live:
            try:
                while True:
                    live.update(self._picture(), refresh=True)
                    await trio.sleep(TABLE_S)
            finally:
                live.update(self._picture(), refresh=True)

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._started_s), 60)
        return f"{minutes}:{seconds:02d}"

    def _rows(self) -> Iterator[tuple[str, str, int, int, int, int]]:
        sites = self._sites
        acknowledged, connected = sites.machines.acknowledged(), sites.machines.connected()
        not_booked = sites.not_booked()
        for it in sites.edges:
            yield (
                it.name,
                self._state(it.name, it.program.state),
                connected[it.name],
                acknowledged[it.name],
                sites.booked(it.name),
                not_booked[it.name],
            )

    def _state(self, site: str, state: State) -> str:
        return "serves, cut off" if site == self._sites.cut and state is State.SERVING else state.value

    def _centre(self) -> tuple[int, str]:
        """How many NATS servers serve, and the hub's state."""
        serving = sum(it.state is State.SERVING for it in self._sites.nats)
        return serving, State.WAITING.value if self._sites.hub is None else self._sites.hub.state.value

    def _line(self) -> str:
        nats, hub = self._centre()
        edges = "".join(
            f"; {site} {state}: {machines} machines, {acknowledged} acknowledged, {booked} in the books"
            for site, state, machines, acknowledged, booked, _ in self._rows()
        )
        return f"{self._clock()}  NATS {nats} of {len(self._sites.nats)}, hub {hub}{edges}"

    def _picture(self) -> Group:
        table = Table(title=self._title, min_width=76)
        for heading in ("site", "its edge", "machines", "acknowledged", "in the books", "not yet"):
            table.add_column(heading, justify="left" if heading in ("site", "its edge") else "right")
        for site, state, *counts in self._rows():
            table.add_row(Text(site), Text(state), *map(str, counts))
        nats, hub = self._centre()
        words = "keeps the books" if hub == State.SERVING.value else hub
        servers = len(self._sites.nats)
        centre = Text(f" NATS servers: {nats} of {servers} serve       hub: {words}       {self._clock()}")
        return Group(table, centre)
