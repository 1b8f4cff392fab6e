"""What goes wrong in a world, and when: drawn from its seed.

Each fault is a method named after it, says in words what it did, and hands back what makes it good again,
where it does not pass by itself. When a world comes to its end everything is well, so that what it has is
what the pool made of it; but for a fuse that is lit, which may go off while all comes to rest.
"""

from collections.abc import Callable
from typing import Any, Final

from tests.simulation.bitcoinds import NETWORK_BITS
from tests.simulation.dice import dice
from tests.simulation.disk import BooksHealth
from tests.simulation.host import Host
from tests.simulation.process import Moment

FAULTS: Final = (1, 5)  # in a world
LASTS_S: Final = (1.0, 9.0)
# Until a fuse goes off: a pool that serves half a dozen machines has some hundred steps a second.
MOMENTS: Final = {Moment.STEP: 1_500, Moment.DISK: 60, Moment.BOOKS: 30}
MOMENTS_OF_A_START: Final = {Moment.STEP: 150, Moment.DISK: 5, Moment.BOOKS: 8}
STEPS_S: Final = (-86_400.0, -3_600.0, -30.0, 90.0, 3_600.0, 86_400.0)  # of the wall clock

Undo = Callable[[], None]
Kinds = tuple[tuple[Callable[[Any], Undo | None], int], ...]  # each with its weight


class Faults:
    """`done` is what was done, in words."""

    def __init__(self, world: Any, kinds: Kinds) -> None:
        self.done: list[str] = world.faults_done
        self._world = world
        self._kinds = kinds
        self._chance = dice(world.seed, "faults")
        self._undo: list[Undo] = []
        self.is_over = False

    def plan(self) -> None:
        """Have them happen."""
        chance = self._chance
        for _ in range(chance.randint(*FAULTS)):
            self._world.network.after(chance.uniform(2.0, self._world.seconds), self._happens)

    def over(self) -> None:
        """Everything is well again."""
        self.is_over = True
        while self._undo:
            self._undo.pop()()

    def _happens(self) -> None:
        if self.is_over:
            return
        fault, weight = zip(*self._kinds, strict=True)
        (happens,) = self._chance.choices(fault, weight)
        undo = happens(self)
        self.done.append(happens.__name__.replace("_", " "))
        self._world.note("fault", self.done[-1])
        if undo is not None:
            self._undo.append(undo)
            self._world.network.after(self._chance.uniform(*LASTS_S), lambda: self._passes(undo))

    def _passes(self, undo: Undo) -> None:
        if undo in self._undo:
            self._undo.remove(undo)
            undo()

    # The process

    def killed_at_some_moment(self) -> None:
        process, node = self._world.node.process, self._world.node
        if process is None or not process.alive:
            return
        moment = self._chance.choice(list(Moment))
        process.light(moment, self._chance.randrange(1, MOMENTS[moment]))
        node.power_fails_too = self._chance.random() < 0.5

    def killed_and_killed_again_as_it_starts(self) -> None:
        moment = self._chance.choice(list(Moment))
        self._world.node.next_fuse = moment, self._chance.randrange(1, MOMENTS_OF_A_START[moment])
        self._world.node.power_fails_too = self._chance.random() < 0.5
        self._world.node.kill()

    # Its disk and its books

    def disk_fails_at_a_sync(self) -> Undo:
        node: Host = self._world.node
        node.power_fails_too = self._chance.random() < 0.5
        node.disk.fails_at_sync()
        return node.disk.is_good

    def disk_is_full(self) -> Undo:
        node: Host = self._world.node
        node.disk.is_full()
        return node.disk.is_good

    def disk_is_slow(self) -> Undo:
        threads = self._world.threads
        threads.slow_s = self._chance.uniform(0.05, 0.8)

        def well() -> None:
            threads.slow_s = 0.0

        return well

    def books_are_away(self) -> Undo:
        return self.books_away(self._world.node.health)

    def books_away(self, health: BooksHealth) -> Undo:
        health.away = True

        def well() -> None:
            health.away = False

        return well

    def answers_of_the_books_are_lost(self) -> None:
        self._world.node.health.loses_answers = self._chance.randint(1, 4)

    # The network

    def lines_are_cut(self) -> None:
        share = self._chance.choice((0.3, 1.0))
        for miner in self._world.miners:
            if self._chance.random() < share:
                miner.hang_up()

    def lines_swallow(self) -> Undo:
        swallowing = [it.connection for it in self._world.miners if self._chance.random() < 0.5]

        def well() -> None:
            for connection in swallowing:
                if connection is not None:
                    connection.close()

        for connection in swallowing:
            if connection is not None:
                connection.swallows = True
        return well

    # The nodes and the chain

    def node_is_down(self) -> Undo:
        node = self._chance.choice(self._world.bitcoinds.nodes)
        node.up = False

        def well() -> None:
            node.up = True

        return well

    def node_is_slow(self) -> Undo:
        node = self._chance.choice(self._world.bitcoinds.nodes)
        node.slow_s = self._chance.uniform(0.5, 8.0)

        def well() -> None:
            node.slow_s = 0.0

        return well

    def node_is_cut_off(self) -> Undo:
        node = self._chance.choice(self._world.bitcoinds.nodes)
        node.cut_off = True

        def well() -> None:
            node.cut_off = False

        return well

    def block_is_found_elsewhere(self) -> None:
        self._world.bitcoinds.found_elsewhere(self._chance.choice((1, 1, 2)))

    def chain_is_reorganised(self) -> None:
        depth = self._chance.choice((1, 1, 2))
        self._world.bitcoinds.found_elsewhere(depth + 1, behind=depth)

    def price_changes(self) -> None:
        nodes = self._world.bitcoinds
        nodes.bits = self._chance.choice([it for it in NETWORK_BITS if it != nodes.bits])
        nodes.found_elsewhere()

    # The other pool

    def upstream_is_cut_off(self) -> None:
        self._world.upstream.cut()

    def upstream_is_down(self) -> Undo:
        upstream = self._world.upstream
        upstream.up = False
        upstream.cut()

        def well() -> None:
            upstream.up = True

        return well

    def upstream_is_silent(self) -> Undo:
        upstream = self._world.upstream
        upstream.silent = True

        def well() -> None:
            upstream.silent = False

        return well

    # Time

    def clock_steps(self) -> None:
        self._world.clock.ahead_s += self._chance.choice(STEPS_S)


KINDS: Final[Kinds] = (
    (Faults.killed_at_some_moment, 8),
    (Faults.killed_and_killed_again_as_it_starts, 3),
    (Faults.disk_fails_at_a_sync, 2),
    (Faults.disk_is_full, 1),
    (Faults.disk_is_slow, 1),
    (Faults.books_are_away, 2),
    (Faults.answers_of_the_books_are_lost, 2),
    (Faults.lines_are_cut, 3),
    (Faults.lines_swallow, 2),
    (Faults.node_is_down, 1),
    (Faults.node_is_slow, 1),
    (Faults.node_is_cut_off, 1),
    (Faults.block_is_found_elsewhere, 2),
    (Faults.chain_is_reorganised, 1),
    (Faults.price_changes, 2),
    (Faults.clock_steps, 1),
    (Faults.upstream_is_cut_off, 2),
    (Faults.upstream_is_down, 1),
    (Faults.upstream_is_silent, 1),
)
OF_ONE_HOST: Final = (
    Faults.killed_at_some_moment,
    Faults.killed_and_killed_again_as_it_starts,
    Faults.disk_fails_at_a_sync,
    Faults.disk_is_full,
    Faults.books_are_away,
    Faults.answers_of_the_books_are_lost,
    Faults.clock_steps,
)
KINDS_AROUND: Final[Kinds] = tuple(it for it in KINDS if it[0] not in OF_ONE_HOST)  # a pool, or several
