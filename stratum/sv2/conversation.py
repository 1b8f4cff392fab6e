"""What one connection of Stratum V2 says and hears, without I/O: messages in, frames out.

    SETUP   -- SetupConnection -->  OPEN, or an error and the end
    OPEN    -- extensions, channels opened, updated and closed, shares --

Channels are its host's, which opens them and ends them. What breaks the protocol ends the connection: what
came was authenticated, so it is no noise on the line. Messages of extensions and protocols that are not
spoken here are passed over.

Invariants: nothing is answered before SetupConnection is; who is refused too often and mines nothing is
ended. Must not know: sockets, encryption, whose turn it is, how a channel mines.
"""

from typing import Final, Protocol

from stratum.sv2 import messages
from stratum.sv2.channel_session import ChannelSession, NotOpened
from stratum.sv2.fields import BadPayload
from stratum.sv2.messages import (
    CHANNEL_MESSAGE,
    CloseChannel,
    OpenChannel,
    RequestExtensions,
    SetupConnection,
    SubmitShares,
    UpdateChannel,
)
from stratum.sv2.noise import Frame

SUPPORTED: Final = (messages.WORKER_TRACKING,)
_SHARE, _EXTENDED_SHARE = 0x1A, 0x1B
_FOR_CHANNEL: Final = (0x16, 0x18, _SHARE, _EXTENDED_SHARE)  # an update, a close, shares
GROUP_ID: Final = 1 << 31  # of channel n the group is n above this: each channel is a group of its own


class Host(Protocol):
    """Who has the channels of a connection."""

    def open_channel(self, asked: OpenChannel, agent: str, *, rolls: bool) -> None:
        """Open one, with all that it is told, or end the connection. Raises NotOpened."""

    def session(self, channel_id: int) -> ChannelSession | None:
        """Of an open channel."""

    def close_channel(self, channel_id: int) -> None:
        """The machine has closed it."""

    @property
    def mines(self) -> bool:
        """Whether any is open."""


def is_share(frame: Frame, *, extended: bool) -> bool:
    """Whether it is one of such a channel, which costs what a share does, and is counted as one."""
    kind = _EXTENDED_SHARE if extended else _SHARE
    return frame.kind == kind and not frame.extension & ~CHANNEL_MESSAGE


def is_for_channel(frame: Frame) -> bool:
    """Whether it begins with the id of a channel."""
    return frame.kind in _FOR_CHANNEL and not frame.extension & ~CHANNEL_MESSAGE


class Conversation:
    """`closing` is why the connection is to be ended; `agent` is what the machine says that it is;
    `may_be_proxy`: machines may come and go behind it."""

    def __init__(self, *, refusals_max: int) -> None:
        self.closing: str | None = None
        self.agent: str | None = None
        self.may_be_proxy = False
        self._refusals_max = refusals_max
        self._refusals = 0
        self._rolls = False
        self._names_workers = False

    def hear(self, frame: Frame, host: Host) -> bytes:
        """The answer to one frame; check `closing` afterwards."""
        try:
            message = messages.parse(frame)
        except BadPayload:
            self.closing = "malformed message"
            return b""
        if self.agent is None and not isinstance(message, SetupConnection):
            self.closing = "no SetupConnection"
            return b""
        match message:
            case SubmitShares():
                return self._submit(message, host)
            case SetupConnection():
                return self._setup(message)
            case RequestExtensions():
                return self._extend(message)
            case OpenChannel():
                return self._open(message, host)
            case UpdateChannel():
                return self._update(message, host)
            case CloseChannel(channel_id=channel_id):
                if host.session(channel_id) is not None:
                    host.close_channel(channel_id)
        return b""

    def _setup(self, asked: SetupConnection) -> bytes:
        if self.agent is not None:
            self.closing = "malformed message"
            return b""
        unknown = asked.flags & ~messages.KNOWN_FLAGS
        if asked.protocol != messages.MINING:
            return self._no_connection(messages.UNSUPPORTED_PROTOCOL)
        if not asked.min_version <= messages.VERSION <= asked.max_version:
            return self._no_connection(messages.VERSION_MISMATCH)
        if unknown:
            return self._no_connection(messages.UNSUPPORTED_FLAGS, unknown)
        words = (asked.vendor, asked.firmware, asked.hardware_version)
        self.agent = "/".join(word for word in words if word) or "sv2"
        self._rolls = bool(asked.flags & messages.REQUIRES_VERSION_ROLLING)
        self.may_be_proxy = not asked.flags & messages.REQUIRES_STANDARD_JOBS
        return messages.setup_success()

    def _no_connection(self, code: str, flags: int = 0) -> bytes:
        self.closing = "refused"
        return messages.setup_error(code, flags)

    def _extend(self, asked: RequestExtensions) -> bytes:
        supported = tuple(it for it in SUPPORTED if it in asked.extensions)
        self._names_workers = messages.WORKER_TRACKING in supported
        if supported:
            return messages.extensions_success(asked.request_id, supported)
        return messages.extensions_error(asked.request_id, tuple(dict.fromkeys(asked.extensions)))

    def _open(self, asked: OpenChannel, host: Host) -> bytes:
        assert self.agent is not None
        try:
            host.open_channel(asked, self.agent, rolls=self._rolls)
        except NotOpened as error:
            self._refused(host)
            return messages.open_error(asked.request_id, str(error))
        return b""

    def _refused(self, host: Host) -> None:
        self._refusals += 1
        if self._refusals >= self._refusals_max and not host.mines:
            self.closing = "refused too often"

    def _update(self, asked: UpdateChannel, host: Host) -> bytes:
        session = host.session(asked.channel_id)
        wrong = messages.NO_CHANNEL if session is None else session.update(asked)
        return b"" if wrong is None else messages.update_error(asked.channel_id, wrong)

    def _submit(self, share: SubmitShares, host: Host) -> bytes:
        session = host.session(share.channel_id)
        standard = share.extranonce is None
        if session is None or standard is not (session.language.extranonce_size == 0):
            return messages.share_error(share.channel_id, share.sequence, messages.NO_CHANNEL)
        session.submit(share, names_worker=self._names_workers)
        return b""
