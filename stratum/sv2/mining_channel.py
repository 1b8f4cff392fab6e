"""A mining channel as the switchboard has it: a connection like any other, on a line that it may share.

Invariants: as of every `Connection`; it is written to until it is shut, and nothing is read of it: its line
hears for it. Must not know: encryption, whose turn it is.
"""

from typing import Protocol

import trio

from stratum.miners.connection import LINES_AT_ONCE, Board, Connection
from stratum.miners.traces.traces import LINE_BYTES_MAX
from stratum.miners.turns.connection_limits import Place
from stratum.sv2 import messages, trace_words
from stratum.sv2.channel_session import ChannelSession
from stratum.sv2.conversation import GROUP_ID
from stratum.sv2.language import ChannelLanguage
from stratum.sv2.messages import OpenChannel
from stratum.sv2.noise import Frame


class Line(Protocol):
    """The encrypted connection that a channel is on."""

    address: str

    def write(self, frames: bytes) -> None: ...
    def words_to_leave(self, number: int) -> bytes: ...
    def shut(self, channel: "MiningChannel") -> None: ...
    def trusts(self, more: int) -> None: ...


class MiningChannel(Connection):
    """One of a line; `number` is its id there."""

    __slots__ = ("_counts_as_trusted", "_line", "number", "told_to_leave")

    session: ChannelSession

    def __init__(self, board: Board, line: Line, place: Place, number: int) -> None:
        self._line = line
        self.number = number
        self.told_to_leave: int | None = None  # by a CloseChannel, when that was the line's last channel
        self._counts_as_trusted = False
        super().__init__(board, line.address, place)

    def _begin_session(self) -> ChannelSession:
        line, number = self._line, self.number
        language = ChannelLanguage(number, lambda: line.words_to_leave(number))
        return ChannelSession(self.board.services, self, trio.current_time(), language)

    def open_with(self, asked: OpenChannel, agent: str, *, rolls: bool) -> bytes:
        """Mine from now on: the answer, and what comes behind it. Raises NotOpened."""
        session, now_s = self.session, trio.current_time()
        said = session.open(asked, agent, rolls=rolls, now_s=now_s)
        self.share_at_s, self.lines_left = now_s, LINES_AT_ONCE
        language, number, group = session.language, self.number, GROUP_ID | self.number
        prefix, size = language.prefix, language.extranonce_size
        target = language.opened(session.difficulty.log2)
        if size:
            request = asked.request_id
            answer = messages.open_extended_success(request, number, target, size, prefix, group)
        else:
            answer = messages.open_standard_success(asked.request_id, number, target, prefix, group)
        return answer + said

    def _rewire(self) -> None:
        counts = self.open and self.trusted
        if counts is not self._counts_as_trusted:
            self._counts_as_trusted = counts
            self._line.trusts(1 if counts else -1)

    def heard(self, frame: Frame) -> None:
        """For whoever looks."""
        for tap in self.taps:
            tap.keep("in", trace_words.text_of(frame)[:LINE_BYTES_MAX], trace_words.heard(frame))

    def said(self, frames: bytes) -> None:
        """Likewise."""
        for tap in self.taps:
            for frame in trace_words.frames_of(frames):
                tap.keep("out", trace_words.text_of(frame)[:LINE_BYTES_MAX], trace_words.said(frame))

    def write(self, data: bytes) -> None:
        if self.open:
            self.said(data)
            self._line.write(data)

    def answer(self, data: bytes) -> None:
        if self.open:
            self.write(self.session.answered(data, self.number))

    def hold(self) -> None:
        """Its line is read, or is not."""

    def release(self) -> None:
        """As `hold`."""

    def shut(self) -> None:
        self.open = False
        self._rewire()
        self._line.shut(self)
