"""How many machines are held off, are being resumed, and were given up, as those say who hold them.

They are asked once a minute. Of who does not answer it is what he said last. Must not know: who wants it.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import trio

from pool.power.control.held import GIVEN_UP_NAMED_MAX, Standing

LOOK_S: Final = 60.0


class HeldWatch:
    """`ask`: how they stand, by who holds them; None of whoever is away."""

    def __init__(self, ask: Callable[[], Awaitable[Mapping[str, Standing | None]]]) -> None:
        self._ask = ask
        self._known: dict[str, Standing | None] = {}
        self._looked = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await trio.sleep(LOOK_S)

    async def look(self) -> None:
        before, told = self._known, await self._ask()
        self._known = {name: it or before.get(name) for name, it in told.items()}
        self._looked = True

    @property
    def complete(self) -> bool:
        """Whether everybody has answered once."""
        return self._looked and None not in self._known.values()

    @property
    def now(self) -> Standing:
        """All together."""
        its = [it for it in self._known.values() if it is not None]
        named = sorted(name for it in its for name in it.given_up[:GIVEN_UP_NAMED_MAX])
        return Standing(
            off=sum(it.off for it in its),
            limited=sum(it.limited for it in its),
            resuming=sum(it.resuming for it in its),
            given_up_machines=sum(it.given_up_machines for it in its),
            given_up=tuple(named[:GIVEN_UP_NAMED_MAX]),
        )
