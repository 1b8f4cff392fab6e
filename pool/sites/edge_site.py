"""Who serves miners at a site, for a hub that may be away for days: `angara edge`.

It begins with what the hub says, or where that does not answer with what it said last (`Membership`). A share
is acknowledged when it is in the journal here, and nothing else is on that way; the journal is published to
the hub beside it (`Publisher`), and what the hub says is heard (`Served`).

Invariants: miners never wait for the hub; an edge that the hub refuses ends, and acknowledges nothing more.
Must not know: how values travel, what shares are worth.
"""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
import trio

from pool.books.edges.leases import EdgeRefused
from pool.chain.block_files import blocks_directory
from pool.chain.networks import NETWORKS
from pool.chain.node_set import NodeSet
from pool.config import BadConfig, PoolConfig, load_config
from pool.data_dir import bind_directory
from pool.edge import Edge
from pool.edges.edge import Edge as EdgeAsked
from pool.garbage import collect_rarely
from pool.hub import HubAway
from pool.journal.alike import make_alike
from pool.journal.disk import Disk
from pool.journal.log import JournalUnusable, writer_directories
from pool.journal.second_copy import TwoDisks
from pool.parts import Known
from pool.power.control.accepted_shares import AcceptedShares
from pool.power.control.runner import Machines, Runner, runner_of
from pool.questions import AnsweredWithError
from pool.sites.access import access
from pool.sites.begin_again import Begun, begin_again
from pool.sites.copy import Copy, CopyOnDisk
from pool.sites.heard_blocks import HeardBlocks
from pool.sites.hub_of_site import HubOfSite
from pool.sites.journal_reader import JournalReader
from pool.sites.line_to_hub import LineToHub
from pool.sites.membership import Membership
from pool.sites.nats.connection import Connection
from pool.sites.nats.publisher import Publisher
from pool.sites.questions import Site
from pool.sites.served import Served
from pool.supervisor import Supervisor

log = structlog.get_logger()

THREAD_SWITCH_S: Final = 0.0005  # as pool.main has it


class EdgeSite:
    """One, whose data directory the caller holds. `supervisor` is told that it serves, and that it stops.
    Raises BadConfig, DataDirError, JournalUnusable."""

    def __init__(
        self,
        config: PoolConfig,
        settings: Path,
        *,
        wall_clock: Callable[[], float] = time.time,
        supervisor: Supervisor | None = None,
    ) -> None:
        if config.site is None:
            raise BadConfig("there is no [edge] in these settings: they are for `angara run`")
        bind_directory(config.data_dir, config.network, NETWORKS[config.network].genesis)
        self._config, self._settings, self._wall_clock = config, settings, wall_clock
        self._supervisor = supervisor
        self._name = name = config.site.name
        self.connection = Connection(access(config.site.nats, name))
        self._to_hub = LineToHub(self.connection, name)
        self._line, self._hub = self._to_hub.line, self._to_hub.hub
        self._edge: Edge | None = None  # while it serves
        self._disk = _disk(config.data_dir, config.site.second_journal)
        self._directory = writer_directories(config.data_dir, 1, self._disk)[0]
        self._membership = Membership(
            self._hub,
            name,
            self._directory,
            CopyOnDisk(config.data_dir, wall_clock),
            alone_hours=config.site.alone_hours,
            wall_clock=wall_clock,
        )

    async def run(
        self, *, task_status: trio.TaskStatus[tuple[tuple[str, int], ...]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Until cancelled. Raises EdgeRefused, BadEndpoint, BadCertificate, JournalUnusable, JournalDamaged,
        JournalFailed."""
        sys.setswitchinterval(THREAD_SWITCH_S)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect_rarely)
            await nursery.start(self._mind_hangups)
            await nursery.start(self.connection.run)
            await nursery.start(self._to_hub.replies.run)
            copy = await self._membership.begin()
            begun = await trio.to_thread.run_sync(begin_again, copy.begin, self._directory, self._disk)
            try:
                await self._serve(begun, copy, task_status)
            finally:
                self._edge = None
                begun.log.close()

    async def _serve(
        self, begun: Begun, copy: Copy, task_status: trio.TaskStatus[tuple[tuple[str, int], ...]]
    ) -> None:
        config, part = self._config, copy.begin.part
        nodes = NodeSet(config.nodes, chain=config.network)
        blocks = HeardBlocks(self.connection, self._name, nodes)
        of_site = HubOfSite(
            self._hub,
            copy.plan,
            epoch=lambda: self._membership.epoch,
            blocks=blocks_directory(config.data_dir),
        )
        known = Known(
            registry=begun.registry,
            log=begun.log,
            start=begun.start,
            hub=of_site,
            nodes=nodes,
            wall_clock=self._wall_clock,
            part=(part.number, part.of),
            tell_block=blocks.tell,
        )
        accepted = AcceptedShares(begun.registry.number_of)
        edge = Edge(config, known, on_commit=accepted.count)
        machines: Runner = await trio.to_thread.run_sync(
            runner_of, config.control, config.data_dir, accepted, self._wall_clock
        )
        publisher = Publisher(
            self.connection,
            self._name,
            JournalReader(self._directory, lambda: begun.log.at.number),
            epoch=lambda: self._membership.epoch,
            wanted=lambda: served.wanted(),
            send=self._send,
            away=(HubAway, AnsweredWithError, EdgeRefused),
        )
        served = Served(
            self._hub,
            self._membership,
            edge,
            known,
            of_site,
            publisher,
            hub_epoch=lambda: self._to_hub.epoch.number,
        )
        self._line.answer(Site, served)
        self._line.answer(EdgeAsked, edge.serving)
        self._line.answer(Machines, machines)
        async with trio.open_nursery() as telling:
            await telling.start(self._line.run)
            telling.start_soon(publisher.run)
            telling.start_soon(served.run)
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(machines.run)
                    await nursery.start(nodes.run)
                    await nursery.start(blocks.run)
                    await edge.serving.assign(copy.begin.assigned)
                    if copy.begin.drains_s is not None:
                        edge.routing.drain.begin(copy.begin.drains_s)
                    addresses: tuple[tuple[str, int], ...] = await nursery.start(edge.run)
                    self._edge = edge
                    log.info("edge_serves", edge=self._name, epoch=self._membership.epoch)
                    task_status.started(addresses)
                    if self._supervisor is not None:
                        nursery.start_soon(self._supervisor.serves)
            finally:
                with trio.CancelScope(shield=True):
                    await edge.commit_last()

    async def _send(self, frames: bytes) -> None:
        await self._hub.send(self._membership.epoch, frames)

    async def _mind_hangups(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """SIGHUP: take up the settings file anew, what of it is live; nothing is before miners are served."""

        def prepared(edge: Edge) -> Callable[[], None]:
            return edge.prepared(load_config(self._settings))

        with trio.open_signal_receiver(signal.SIGHUP) as hangups:
            task_status.started()
            async for _ in hangups:
                if (edge := self._edge) is None:
                    log.error("settings_not_reloaded", reason="no miners are served yet")
                    continue
                try:
                    (await trio.to_thread.run_sync(prepared, edge))()
                except BadConfig as error:
                    log.error("settings_not_reloaded", reason=str(error)[:300])
                else:
                    log.info("settings_reloaded")


def _disk(data_dir: Path, second: Path | None) -> Disk:
    """What the journal is written to. Raises JournalUnusable."""
    if second is None:
        return Disk()
    try:
        make_alike(data_dir, second, Disk())
    except OSError as error:
        raise JournalUnusable(f"{second}: {error.strerror or error}") from error
    return TwoDisks(data_dir, second)
