"""A mining channel of Stratum V2 as a session: a machine, or a proxy with machines behind it.

It says its name when it opens, so it has its place before it is given extranonces. Shares are put to the
engine in the words that it knows; its answers come in the order of the shares, and good ones are answered
together.

With extension 0x0002 the shares of an extended channel name their worker: by its whole name, or by what
stands behind the last dot of it, which is then of the same tenant and container as the channel's own.

Invariants: as of every session; of names that shares bring so many are asked for at most, and each once, or
until it may mine.
Must not know: frames, sockets, whose turn it is.
"""

import math
from collections import deque
from fractions import Fraction
from typing import Final

from stratum._engine import WORKERS_PER_SESSION_MAX
from stratum.difficulty import DIFF1, difficulty_from_log2
from stratum.miners.channel import ROLLED_BITS, VERSION_MASK
from stratum.miners.contracts import Refusal, Services
from stratum.miners.extranonce import ExtranonceExhausted
from stratum.miners.liveness import Due
from stratum.miners.mining_session import Event, MiningSession
from stratum.miners.owner import Owner
from stratum.sv2 import messages
from stratum.sv2.language import ChannelLanguage
from stratum.sv2.messages import OpenChannel, SubmitShares, UpdateChannel

TARGET_MAX: Final = (1 << 256) - 1
# What the engine answers, in the words of V1, and what a machine of V2 is told for it.
ERROR_CODES: Final = {
    b"Malformed share": "invalid-extranonce-size",
    b"Not subscribed": messages.NO_CHANNEL,
    b"Unauthorized worker": messages.UNKNOWN_USER,
    b"Job not found": "invalid-job-id",
    b"Stale share": "stale-share",
    b"ntime out of range": "invalid-timestamp",
    b"Version bits outside the mask": "invalid-version",
    b"Low difficulty share": "difficulty-too-low",
    b"Duplicate share": "duplicate-share",
    b"Share not counted, try again": "not-counted-try-again",
}


class NotOpened(Exception):
    """Why, as a code."""


class NotNow(NotOpened):
    """It may be later, as it was asked for."""


class ChannelSession(MiningSession):
    """`language` is what it is told in."""

    __slots__ = ("_judged_at", "_name", "_names", "language")

    _language: ChannelLanguage

    def __init__(self, services: Services, owner: Owner, now_s: float, language: ChannelLanguage) -> None:
        super().__init__(services, owner, now_s, language)
        self.language = language
        self._name = b""
        # That shares brought: what each is known by; nothing where it may not mine, None where it may later.
        self._names: dict[bytes, bytes | None] = {}
        self._judged_at: deque[int] = deque()  # of the shares that are not answered yet

    @property
    def name(self) -> bytes:
        """That it opened with."""
        return self._name

    def open(self, asked: OpenChannel, agent: str, *, rolls: bool, now_s: float) -> bytes:
        """Mine from now on: what it is told of it, behind the answer that opens it. Raises NotOpened."""
        assignment = self.assignment
        admitted = self._admit(asked.user_identity, agent)
        if isinstance(admitted, Refusal):
            refused = NotNow if admitted.passes else NotOpened
            raise refused(f"{messages.UNKNOWN_USER}: {admitted.reason}")
        self._name = asked.user_identity.encode()
        self._advance(Event.AUTHORISE, now_s)
        try:
            self._take_extranonces(agent, None, now_s)
        except ExtranonceExhausted:
            raise NotOpened("no-extranonce-left") from None
        if rolls and assignment.channel.version_mask & VERSION_MASK == 0:
            raise NotOpened("version-rolling-not-allowed")
        extranonce1, room = assignment.told
        size = 0 if asked.min_extranonce_size is None else room
        if size < (asked.min_extranonce_size or 0):
            raise NotOpened(messages.EXTRANONCE_SIZE)
        if not self._keep_within(asked.max_target):
            raise NotOpened(messages.MAX_TARGET)
        self._note_word("open extended" if size else "open standard")
        assignment.wants_extranonce, assignment.least_extranonce2_size = True, size
        assignment.ask_mask(ROLLED_BITS)
        self._start_from(admitted, self._wish_of(asked.hashrate_hps), now_s)
        self.language.open(bytes.fromhex(extranonce1), room, size)
        return self._advance(Event.SUBSCRIBE, now_s)

    def _keep_within(self, max_target: int) -> bool:
        """Not below the difficulty of the largest target that it takes; False for one that we do not have."""
        if max_target == 0:
            return False
        least = Fraction(DIFF1, max_target)
        lowest = difficulty_from_log2(self.assignment.policy.difficulty_log2_min)
        return least <= lowest or self._ask_for(least)

    def _wish_of(self, hashrate_hps: float) -> Fraction | None:
        """The difficulty at which so much hashrate finds a share as often as vardiff aims at."""
        if not math.isfinite(hashrate_hps) or hashrate_hps <= 0:
            return None
        return Fraction(hashrate_hps) * Fraction(self.assignment.policy.aim_s) / (1 << 32)

    def update(self, asked: UpdateChannel) -> str | None:
        """It is another machine now, or has others behind it; what is wrong with that."""
        if not self._keep_within(asked.max_target):
            return messages.MAX_TARGET
        wish = self._wish_of(asked.hashrate_hps)
        wished_log2 = None if wish is None else self.difficulty.suggest(self.assignment.policy, wish)
        if wished_log2 is not None:
            self.assignment.want_difficulty(wished_log2)
        return None

    def _help(self, due: Due | None, now_s: float) -> bytes:
        """A channel is closed at the end of all help, and not in the middle of it: who hears of that opens
        another one, and never says that it has left this one."""
        return b"" if due is Due.RECONNECT else super()._help(due, now_s)

    # Shares

    def submit(self, share: SubmitShares, *, names_worker: bool) -> None:
        """Put it to the engine, which answers every one. `names_worker`: the worker in it is meant."""
        engine, assignment = self._services.engine, self.assignment
        found = self.language.job_of(share.job_id, assignment.sent_seq)
        channel = assignment.channel if found is None else found[1]
        seq, rolled, log2 = share.job_id, 0, None
        if found is not None:
            seq, _, job = found
            rolled = share.version ^ (job.work.version & 0xFFFFFFFF & ~(ROLLED_BITS & channel.version_mask))
            log2 = engine.judged_at(self.slot, channel.number, seq)
        searched = share.extranonce or b""
        filled = bytes(channel.extranonce2_size - self.language.extranonce_size) + searched
        name = self._name
        if names_worker and share.worker is not None:
            name = self._named(share.worker)
        numbers = (seq, filled.hex(), share.ntime, share.nonce, rolled)
        params = (name, *(b"%x" % it if isinstance(it, int) else it.encode() for it in numbers))
        self._judged_at.append(self.difficulty.log2 if log2 is None else log2)
        engine.submit(self.slot, b"%d" % share.sequence, params)

    def _named(self, worker: bytes) -> bytes:
        """The name that its worker is known by; nothing where it may not mine."""
        name = self._names.get(worker)
        if name is None and (worker in self._names or len(self._names) < WORKERS_PER_SESSION_MAX):
            name = self._names[worker] = self._meet(worker)
        return name or b""

    def _meet(self, worker: bytes) -> bytes | None:
        try:
            text = worker.decode()
        except UnicodeDecodeError:
            return b""
        own, _, _ = self._name.decode().rpartition(".")
        name = text if "." in text or not own else f"{own}.{text}"
        if not name.isprintable():
            return b""
        admitted = self._admit(name, self._agent)
        if isinstance(admitted, Refusal):
            return None if admitted.passes else b""
        return name.encode()

    def answered(self, replies: bytes, channel_id: int) -> bytes:
        """What the machine is told for the engine's replies: those accepted together, behind the others."""
        said, count, difficulties, last = b"", 0, Fraction(0), 0
        for line in replies.splitlines():
            # {"id":N,"result":true,... or {"id":N,"result":null,"error":[code,"text",null]}
            sequence = int(line[6 : line.index(b",")])
            log2 = self._judged_at.popleft()
            if b'"result":true' in line:
                count, last = count + 1, sequence
                difficulties += difficulty_from_log2(log2)
            else:
                code = ERROR_CODES[line.split(b'"')[-2]]
                said += messages.share_error(channel_id, sequence, code)
        if count:
            said += messages.shares_success(channel_id, last, count, int(difficulties))
        return said
