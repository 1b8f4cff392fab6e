"""Who is told which job, and when: new work at once or in due course, other work for those who wait, moves.

New work on another previous block goes to everybody at once; a routine refresh is spread over a while, so
that 22,400 sockets do not burst. Between two works, those who wait for a difficulty get the work made anew,
all of them the same one. What is quiet for too long is said again.

Invariants: shares are judged (`judge`) before a job drops out of its channel. A session is never told an
older job than it has. Must not know: sockets, shares, where work comes from.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import trio

from stratum.histogram import Histogram
from stratum.job import Work
from stratum.miners.channel import Channel, Member, Moved
from stratum.miners.extranonce import ExtranonceExhausted
from stratum.miners.owner import Owner
from stratum.paced import Paced

# Between two works that are made anew for who waits for a difficulty: all of them share one, however many
# they are and however often they ask.
ANEW_INTERVAL_S: Final = 1.0
# Miners give up on a pool that sends no job for 60 s. Work comes every 30 s; when it does not, because the
# node is slow or gone, what there is goes out again, anew or as an alias.
JOB_INTERVAL_S: Final = 45.0
QUIET_CHECK_S: Final = 2.0
PACE_CHUNK: Final = 64  # sessions written in one go of a routine refresh: under a millisecond


class Distribution:
    """For the channels of one server. `start_of`: the difficulty of work for who was not there when it came.

    `clock` is what sessions count their time by, in seconds.
    """

    def __init__(
        self,
        start_of: Callable[[Channel, Work], int],
        *,
        judge: Callable[[], None],
        write_all: Callable[[Iterable[tuple[Owner, bytes]]], None],
        refresh_spread_s: float,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.moved: Counter[Moved] = Counter()
        self.clean_jobs = Histogram()  # how long it took to tell everybody of work on another block
        self._start_of = start_of
        self._judge = judge
        self._write_all = write_all
        self._refresh_spread_s = refresh_spread_s
        self._clock = clock
        self._channels: dict[int, Channel] = {}
        self._wanted = Paced[None](ANEW_INTERVAL_S)  # somebody waits
        self._refreshed: deque[Channel] = deque()  # whose sessions get the current job in due course
        self._refresh = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pace)
            nursery.start_soon(self._serve_waiting)
            task_status.started()

    @property
    def channels(self) -> tuple[Channel, ...]:
        """All that are served."""
        return tuple(self._channels.values())

    def channel(self, number: int) -> Channel:
        """The one that the engine calls so. Raises KeyError."""
        return self._channels[number]

    def add_channel(self, channel: Channel) -> None:
        """Serve its sessions, until it is removed."""
        self._channels[channel.number] = channel
        channel.on_waiting = self._note_waiting

    def remove_channel(self, channel: Channel) -> None:
        """Its sessions have been moved, and what they still send of its jobs is not known any more."""
        assert not channel.sessions
        self._judge()
        del self._channels[channel.number]
        channel.close()

    def forget_work(self, channel: Channel) -> None:
        """Nobody mines it, nor will before it has other work."""
        self._judge()
        channel.forget_work()

    def publish(
        self,
        channel: Channel,
        work: Work,
        *,
        rate: int,
        forward_target: int | None = None,
        clean: bool = False,
        outdates: bool = False,
    ) -> None:
        """New work: to everyone at once where the previous block changed or `clean`, paced otherwise."""
        since_s = time.perf_counter()
        self._judge()  # no share is on the way to the job that drops out of the channel now
        job = channel.publish(
            work,
            rate=rate,
            forward_target=forward_target,
            clean=clean,
            outdates=outdates,
            start_log2=self._start_of(channel, work),
        )
        channel.told_s = self._clock()
        fresh = job.space == job.seq
        if job.clean:
            self.send_current(channel, list(channel.sessions), clean=True, fresh=fresh)
            self.clean_jobs.add(time.perf_counter() - since_s)
        else:
            self.send_current(channel, list(channel.waiting), fresh=fresh)
            self._refresh_in_due_course(channel)

    def move(self, session: Member, channel: Channel) -> Moved | None:
        """Let a session that mines do so on another channel. None: there is no extranonce left on it."""
        try:
            moved = session.move_to(channel, self._clock())
        except ExtranonceExhausted:
            return None
        if moved is Moved.RECONNECT:
            session.owner.write(session.send_away(self._clock()))
        self.moved[moved] += 1
        return moved

    def mask_changed(self, channel: Channel) -> None:
        """Tell the channel's sessions which version bits they may roll from now on."""
        for session in list(channel.sessions):
            said = session.mask_changed()
            if said:
                session.owner.write(said)

    def send_current(
        self, channel: Channel, sessions: Iterable[Member], *, clean: bool = False, fresh: bool = False
    ) -> None:
        """The channel's current job. `fresh`: since its work came nobody has been told or asked anything."""
        job = channel.current
        assert job is not None
        line, now_s = channel.notify_line(clean=clean), self._clock()
        others: list[Member] = []  # a job is made for each of them, for which nobody else is to wait
        said: list[tuple[Owner, bytes]] = []
        for session in sessions:
            if session.channel is channel and session.sent_seq < job.seq:
                if not session.shares_line:
                    others.append(session)
                elif words := session.send_job(line, job, now_s, fresh=fresh):
                    said.append((session.owner, words))
        self._write_all(said)
        if others:
            told = ((it.owner, it.send_job(line, job, now_s, fresh=fresh)) for it in others)
            self._write_all([it for it in told if it[1]])

    def refreshes(self) -> Iterator[int]:
        """Send what is due in due course, a chunk of sessions a step; each time, how many there are."""
        chunks: list[tuple[Channel, list[Member]]] = []
        while self._refreshed:
            channel = self._refreshed.popleft()
            sessions = list(channel.sessions)
            chunks += [
                (channel, sessions[at : at + PACE_CHUNK]) for at in range(0, len(sessions), PACE_CHUNK)
            ]
        for channel, chunk in chunks:
            if not channel.paused:  # else there is something better, soon
                self.send_current(channel, [it for it in chunk if it.owner.open])
            yield len(chunks)

    def serve_waiting(self) -> None:
        """Between two jobs: one for all who wait, or for everybody after a while."""
        for channel in self.channels:
            if not channel.paused:
                self._serve(channel)

    def _serve(self, channel: Channel) -> None:
        quiet = self._clock() - channel.told_s >= JOB_INTERVAL_S
        can_be_served = channel.servable()
        if not can_be_served and not quiet:
            return
        self._judge()  # as in publish
        fresh = channel.anew() is not None
        if not fresh and channel.alias() is None:
            return
        self.send_current(channel, can_be_served, fresh=fresh)
        if quiet:
            channel.told_s = self._clock()
            self._refresh_in_due_course(channel)

    def _refresh_in_due_course(self, channel: Channel) -> None:
        if channel not in self._refreshed:
            self._refreshed.append(channel)
        self._refresh.set()

    def _note_waiting(self) -> None:
        self._wanted.put(None)

    async def _pace(self) -> None:
        """Routine refreshes, spread over a while. One that comes meanwhile is sent from there on."""
        while True:
            await self._refresh.wait()
            self._refresh = trio.Event()
            for chunks in self.refreshes():
                await trio.sleep(self._refresh_spread_s / chunks)

    async def _serve_waiting(self) -> None:
        while True:
            with trio.move_on_after(QUIET_CHECK_S):
                await self._wanted.due()
            self._wanted.hand_on()
            self.serve_waiting()
