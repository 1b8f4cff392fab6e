"""An edge's standing with its hub: who it is to it (`epoch`), and what the hub said last, on disk.

Must not know: miners, how values travel.
"""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
import trio

from pool.books.edges.leases import Asked, EdgeRefused, Granted
from pool.books.store import process_name
from pool.hub import HubAway
from pool.journal.frames import Place
from pool.journal.segments import end_of
from pool.questions import AnsweredWithError
from pool.sites.copy import VERSION, Copy, CopyOnDisk, NoCopy
from pool.sites.questions import Everything, SiteHub

log = structlog.get_logger()

HUB_WAIT_S: Final = 20.0  # at the start, before it begins with what the hub said last
AGAIN_S: Final = 1.0  # between two questions to a hub that does not answer
MACHINE_ID: Final = Path("/etc/machine-id")
# What asking a hub that is not there, or is another version, comes to.
SILENT: Final = (HubAway, AnsweredWithError)


class Membership:
    """Of the edge of that name, with the journal in that directory."""

    def __init__(
        self,
        hub: SiteHub,
        name: str,
        directory: Path,
        copy: CopyOnDisk,
        *,
        alone_hours: int,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._hub, self._name, self._directory, self._copy = hub, name, directory, copy
        self._alone_hours, self._wall_clock = alone_hours, wall_clock
        self._process = process_name()
        self._part: int | None = None
        self.granted = False  # by the hub, since it last said that this is not the edge
        self.epoch = 0
        self.changes = -1  # the number of the last change that is known here
        self.kept = False  # what the hub said last is on disk

    async def begin(self) -> Copy:
        """What the hub says, or said last where it does not answer. Raises EdgeRefused."""
        with trio.move_on_after(HUB_WAIT_S):
            return await self._until_granted()
        try:
            copy = await trio.to_thread.run_sync(self._said_last)
        except NoCopy as error:
            log.error("edge_waits_for_hub", reason=str(error))
            return await self._until_granted()
        self.granted, self.epoch, self._part = False, copy.epoch, copy.begin.part.number
        heard_s_ago = int(self._wall_clock()) - copy.said_at_s
        log.warning("edge_begins_alone", epoch=copy.epoch, heard_s_ago=heard_s_ago)
        return copy

    async def ask(self, last: Place) -> Granted:
        """Be the edge from now on, with a journal that ends there. Raises EdgeRefused, and SILENT."""
        asked = Asked(
            edge=self._name,
            host=host_name(),
            process=self._process,
            writer=self._directory.name,
            last=last,
        )
        granted = await self._hub.begin(asked)
        if self._part not in (None, granted.part):
            raise EdgeRefused(f"the hub has given edge {self._name} another part: start it again")
        self.granted, self.epoch, self._part = True, granted.epoch, granted.part
        log.info("edge_granted", epoch=granted.epoch, part=granted.part, held=granted.held)
        return granted

    async def everything(self) -> Everything:
        """All that there is to know, on disk too. Raises EdgeRefused, and what SILENT are."""
        it = await self._hub.everything(self.epoch)
        writer = self._directory.name
        try:
            await trio.to_thread.run_sync(self._copy.keep, self._name, self.epoch, writer, it.begin, it.plan)
            self.kept = True
        except OSError as error:  # miners need it only where the hub is away at a start
            log.error("copy_not_kept", reason=error.strerror or str(error))
            self.kept = False
        self.changes = it.changes
        return it

    def _said_last(self) -> Copy:
        """Raises NoCopy, also where the journal here is not the one that it was said to."""
        copy = self._copy.read(self._name, self._directory.name, hours_max=self._alone_hours)
        end, behind = end_of(self._directory), copy.begin.start.beginning.behind
        if end.number < behind.number:
            raise NoCopy(
                f"the journal here ends with record {end.number}, and the books had {behind.number} of it"
            )
        return copy

    async def _until_granted(self) -> Copy:
        told = ""
        while True:
            try:
                await self.ask(await trio.to_thread.run_sync(end_of, self._directory))
                it = await self.everything()
                now_s, writer = int(self._wall_clock()), self._directory.name
                return Copy(VERSION, self._name, self.epoch, now_s, writer, it.begin, it.plan)
            except SILENT as error:
                if str(error) != told:
                    log.warning("hub_waited_for", reason=str(error))
                told = str(error)
            await trio.sleep(AGAIN_S)


def host_name() -> str:
    """Of this host and no other: the name alone is often that of an image."""
    try:
        return f"{socket.gethostname()} {MACHINE_ID.read_text()[:8]}".strip()
    except (OSError, UnicodeDecodeError):
        return socket.gethostname()
