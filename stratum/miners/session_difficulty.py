"""The difficulty of one session: what its work counts, what it is to count, and who has a say in that.

A miner suggests one at first contact, may ask for a lowest one, and comes back to the one that is remembered
of it; from then on vardiff decides by its shares. What is wanted is *pending* until there is work that it can
hold for: whoever chose a difficulty for work that is known could choose by the hashes that he has found.

A machine that came back and has not been heard may be another one than is remembered: it is tried at less, a
step after a while of silence, until its first share.

Invariants: always within the policy and not below what the miner asked for, unless that is above the policy;
a difficulty holds from the job on that it was pinned at. Must not know: channels, jobs, sockets.
"""

from fractions import Fraction
from typing import Final

from stratum.difficulty import ceil_log2, difficulty_from_log2, floor_log2
from stratum.miners import vardiff
from stratum.miners.contracts import Services
from stratum.miners.vardiff import History, VardiffPolicy

# Why it has the difficulty that it has.
FIRST: Final = "where who is new starts"
SUGGESTED: Final = "it suggested that"
MINIMUM: Final = "it asked for no less"
REMEMBERED: Final = "it had that before"
FASTER: Final = "its shares came too often"
SLOWER: Final = "its shares came too rarely"
UNHEARD: Final = "no share since it came back"


class SessionDifficulty:
    """`log2` is in force since the job `pinned_from`; `pending_log2` is for the next work, None: no other.

    The policy is the one of the channel that is mined, which may change at any time: it comes with each call.
    """

    __slots__ = (
        "_floor_log2",
        "_history",
        "_returned_log2",
        "_services",
        "_slot",
        "_wished_log2",
        "log2",
        "pending_log2",
        "pinned_from",
        "reason",
    )

    def __init__(self, services: Services, slot: int, now_s: float) -> None:
        self.log2 = services.start_difficulty_log2
        self.pending_log2: int | None = None
        self.pinned_from = 0
        self.reason = FIRST  # why the one that is wanted is
        self._services = services
        self._slot = slot  # the engine's number of the session
        # Steady: this machine's own shares have said what it needs, in this session or an earlier one.
        self._history = History(from_s=now_s)
        self._returned_log2: int | None = None  # what it came back with, until it is heard
        self._floor_log2: int | None = None
        self._wished_log2: int | None = None

    # Before it mines

    def suggest(self, policy: VardiffPolicy, difficulty: Fraction) -> int | None:
        """What the miner suggests, at first contact and within the range; None as if it had said nothing.

        Firmware suggests what it was shipped with: a site that comes back must not start there.
        """
        least = difficulty_from_log2(policy.difficulty_log2_min)
        beyond = difficulty_from_log2(policy.difficulty_log2_max + 1)
        if self._history.steady or not least <= difficulty < beyond:
            return None
        self._wished_log2, self.reason = floor_log2(difficulty), SUGGESTED
        return self._wished_log2

    def ask_for(self, policy: VardiffPolicy, minimum: Fraction | None) -> bool:
        """The miner's lowest difficulty; vardiff never goes below it. False for one that we do not have."""
        if minimum is None or minimum > difficulty_from_log2(policy.difficulty_log2_max):
            return False
        self.keep_above(ceil_log2(minimum))
        self.reason = MINIMUM
        return True

    def keep_above(self, least_log2: int) -> None:
        """Not below this: of several workers on a connection the most demanding one decides."""
        self._floor_log2 = least_log2 if self._floor_log2 is None else max(self._floor_log2, least_log2)

    def remember(self, log2: int, now_s: float) -> None:
        """The machine has mined before, at this difficulty last."""
        self._wished_log2, self.reason = log2, REMEMBERED
        self._history = History(from_s=now_s, steady=True)

    def start(self, policy: VardiffPolicy) -> None:
        """It mines from now on."""
        wished = self._services.start_difficulty_log2 if self._wished_log2 is None else self._wished_log2
        self.log2 = self.pending_log2 = policy.clamp(wished, self._floor_log2)
        if self._history.steady and self._services.silent is not None:
            self._returned_log2 = self.log2

    def leave(self, worker: int) -> None:
        """The session of this worker is over."""
        if self._returned_log2 is not None and self._services.silent is not None:
            self._services.silent.left(worker)

    def settled(self, now_s: float) -> bool:
        """Right after vardiff looked at it: whether its shares say that it has what it needs."""
        heard = self._history.from_s < now_s  # in the window, which silence begins anew
        return heard and self._history.steady and self.pending_log2 is None and self._returned_log2 is None

    # For other work

    @property
    def wanted_log2(self) -> int:
        """What the next work is to have."""
        return self.log2 if self.pending_log2 is None else self.pending_log2

    def least_log2(self, policy: VardiffPolicy) -> int:
        """Below this the miner must not be."""
        return policy.clamp(policy.difficulty_log2_min, self._floor_log2)

    def want(self, policy: VardiffPolicy, log2: int | None = None, *, anyway: bool = False) -> None:
        """Wait with a difficulty for other work; without one, with what is wanted where bounds have changed.

        `anyway`: it waits for a job, even with the difficulty that it has.
        """
        wanted = policy.clamp(self.wanted_log2 if log2 is None else log2, self._floor_log2)
        self.pending_log2 = wanted if anyway or wanted != self.log2 else None

    def pin(self, policy: VardiffPolicy, log2: int, seq: int, now_s: float, *, was_idle: bool) -> None:
        """Set the difficulty of work from `seq` on. Another one that is wanted waits.

        `was_idle`: it had nothing to do until now.
        """
        engine, wanted_log2 = self._services.engine, self.wanted_log2
        if was_idle:
            self._history = History(from_s=now_s, steady=self._history.steady)
        else:
            _, _, shares = engine.counters(self._slot)
            self._history = vardiff.moved(
                policy, self._history, difficulty_log2=self.log2, shares=shares, now_s=now_s
            )
        engine.pin_difficulty(self._slot, log2, seq)
        first = 1 if self._returned_log2 is not None else vardiff.next_retarget(0)
        engine.set_retarget_after(self._slot, first)
        self.log2, self.pinned_from = log2, seq
        self.want(policy, wanted_log2)

    # Vardiff

    def retarget(
        self, policy: VardiffPolicy, worker: int, accepted: int, shares: int, now_s: float
    ) -> int | None:
        """Let vardiff see the shares accepted, and those at `log2`; another difficulty that it wants."""
        if self.pending_log2 is not None:
            return None
        if self._returned_log2 is not None:
            if accepted == 0:
                return self._not_heard(policy, self._returned_log2, worker, now_s)
            self._heard(self._returned_log2, worker, shares, now_s)
        wanted_log2, self._history = vardiff.retarget(
            policy,
            self._history,
            difficulty_log2=self.log2,
            floor_log2=self._floor_log2,
            shares=shares,
            now_s=now_s,
        )
        if wanted_log2 != self.log2:
            self.reason = FASTER if wanted_log2 > self.log2 else SLOWER
            return wanted_log2
        before = self._history.shares_before
        self._services.engine.set_retarget_after(self._slot, before + vardiff.next_retarget(shares - before))
        return None

    def _not_heard(self, policy: VardiffPolicy, returned_log2: int, worker: int, now_s: float) -> int | None:
        """What was remembered may be of another machine: after a while of silence it is tried at less."""
        if now_s - self._history.from_s < vardiff.UNHEARD_AIMS * policy.aim_s:
            return None
        self._history = History(from_s=now_s, steady=True)
        step = vardiff.unheard_step(returned_log2 - self.log2)
        wanted_log2 = policy.clamp(self.log2 - step, self._floor_log2)
        silent = self._services.silent
        assert silent is not None
        lower = wanted_log2 < self.log2 and silent.lower(worker, returned_log2, wanted_log2)
        self.reason = UNHEARD if lower else self.reason
        return wanted_log2 if lower else None

    def _heard(self, returned_log2: int, worker: int, shares: int, now_s: float) -> None:
        """Its first share: from now on vardiff counts, and from the start where it had to be brought down."""
        self._returned_log2 = None
        steady = self.log2 >= returned_log2
        self._history = History(from_s=now_s, shares_before=shares, steady=steady)
        if self._services.silent is not None:
            self._services.silent.heard(worker)
