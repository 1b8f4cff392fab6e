"""Variable difficulty as pure functions: what a session did in, the difficulty that it should have out.

Shares are a Poisson process, so a count and a time say how fast a machine is, and the count says how sure
that is. At first contact a session climbs the *ladder*: it goes to the power of two nearest to the best
estimate from everything since the connect, because a wrong step costs seconds and waiting costs more.
After a while at one difficulty it is *steady*: now a difficulty is left only when the exact (Garwood)
confidence interval of the rate lies wholly beyond a bound, and the bounds are further apart than the
factor of two of one step, so a move can never justify the move back.

Invariants: a difficulty is a power of two within the policy's range and not below what the miner asked
for; only accepted shares are counted. Must not know: clocks, engines, sessions.

Measured by simulation (tests/stratum/miners/test_vardiff.py) at the aim of 6 s, 500 machines each. From
1,000 times too low half of them are within half and twice the aim, to stay there, after 1 s, 95 % after 2 s
and 99.8 % after 2 minutes, with 410 shares at most in the first five minutes. From 1,000 times too high: half
after 40 s,
96 % after 2 minutes. From anywhere all are within a factor of four after 75 s. From the second hour on, 4
of 96 machines moved once in 24 hours, and none twice.
"""

import math

import msgspec

# Rates are in units of the aim. Steady state is anywhere between; a step up from just above HIGH lands
# at HIGH / 2 > LOW, and a step down from just below LOW at 2 * LOW < HIGH.
RATE_HIGH = 1.4
RATE_LOW = 0.62
Z_STEADY = 3.5  # one false move in 4,000 independent tries; a steady session has some 100 a day
STEADY_SHARES_MIN = 24  # a burst of a few shares happens by chance when one tries all day
STEADY_STEP_DOWN_MAX = 4
# A steady session that is faster by this much is another machine by now: it climbs the ladder again. One
# that is slower may just have stopped, and would fall down the ladder.
LADDER_AGAIN = 2
LADDER_SHARES_MIN = 8  # or LADDER_AIMS_MIN without as many
LADDER_AIMS_MIN = 1.5
LADDER_STEP = 0.6  # more than half a step, so that an estimate in the middle does not go to and fro
LADDER_STEP_DOWN_MAX = 4
SILENT_STEP_DOWN = 5  # not one share since the connect: in two stages down a thousand times
# A machine that came back with what was remembered of it, and without a share yet: after as long as
# brings one with 99.3 %, a step down, and then twice as many each time.
UNHEARD_AIMS = 5
UNHEARD_STEP_MAX = 4
STEP_UP_MAX = 10  # a thousand times too low is found at once; more is not plausible from one burst
STEADY_AIMS = 12  # at one difficulty, then the ladder ends
WINDOW_AIMS = 450  # then counting starts anew, so that hours of the past do not hide the present
RETARGET_SHARES_MIN = 8  # the first time; each further time waits for twice as many
RETARGET_SHARES_MAX = 256


class VardiffPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """aim_s: seconds a share; the range of difficulties as powers of two."""

    aim_s: float = 6.0
    difficulty_log2_min: int
    difficulty_log2_max: int

    def clamp(self, difficulty_log2: int, floor_log2: int | None = None) -> int:
        """Into the range, and not below what the miner asked for, unless that is above the range."""
        low = self.difficulty_log2_min if floor_log2 is None else max(self.difficulty_log2_min, floor_log2)
        return min(max(difficulty_log2, low), self.difficulty_log2_max)


class History(msgspec.Struct, frozen=True, kw_only=True, gc=False):  # numbers: nothing to collect
    """What vardiff remembers of a session between two retargets.

    The window is the time since from_s, at one difficulty; shares_before were accepted at that
    difficulty before it. While on the ladder, earlier_* sum up the difficulties before: shares, and how
    many would have come at the aim if all had been difficulty 1.
    """

    from_s: float
    shares_before: int = 0
    earlier_shares: int = 0
    earlier_expected: float = 0.0
    steady: bool = False


def retarget(
    policy: VardiffPolicy,
    history: History,
    *,
    difficulty_log2: int,
    floor_log2: int | None,
    shares: int,
    now_s: float,
) -> tuple[int, History]:
    """The difficulty to have, the present one included, and the history for the next time.

    shares: accepted since the present difficulty was set. Call `moved` once a new one is in force.
    """
    count = shares - history.shares_before
    if history.steady and count == 0:
        # Silence says that a steady machine stands still, not that it is slow. Whole sites stand still
        # at once, and must not all come back at the lowest difficulty.
        return difficulty_log2, msgspec.structs.replace(history, from_s=now_s)
    expected = (now_s - history.from_s) / policy.aim_s
    move = steady_step(count, expected)
    if move:
        # This window is certain by itself: what was before it, if it says otherwise, is not so any more.
        history = History(
            from_s=history.from_s,
            shares_before=history.shares_before,
            steady=history.steady and move < LADDER_AGAIN,
        )
    elif not history.steady:
        earlier = math.ldexp(history.earlier_expected, difficulty_log2)
        move = ladder_step(count + history.earlier_shares, expected + earlier)
    wanted_log2 = policy.clamp(difficulty_log2 + move, floor_log2)
    if wanted_log2 != difficulty_log2:
        return wanted_log2, history
    if expected >= WINDOW_AIMS:
        return difficulty_log2, History(from_s=now_s, shares_before=shares, steady=True)
    if expected >= STEADY_AIMS and not history.steady:
        history = History(from_s=history.from_s, shares_before=history.shares_before, steady=True)
    return difficulty_log2, history


def moved(
    policy: VardiffPolicy, history: History, *, difficulty_log2: int, shares: int, now_s: float
) -> History:
    """The history after difficulty_log2, at which `shares` were accepted, was left for another."""
    if history.steady:
        return History(from_s=now_s, steady=True)
    expected = (now_s - history.from_s) / policy.aim_s
    return History(
        from_s=now_s,
        earlier_shares=history.earlier_shares + shares - history.shares_before,
        earlier_expected=history.earlier_expected + math.ldexp(expected, -difficulty_log2),
    )


def steady_step(shares: int, expected: float) -> int:
    """By how many powers of two to move, beyond doubt: positive is harder, 0 is stay."""
    if expected <= 0 or shares == 0:
        return 0
    if shares >= STEADY_SHARES_MIN and _count_low(shares) > RATE_HIGH * expected:
        return min(max(1, round(math.log2(shares / expected))), STEP_UP_MAX)
    if _count_high(shares) < RATE_LOW * expected:
        return -min(max(1, round(math.log2(expected / shares))), STEADY_STEP_DOWN_MAX)
    return 0


def ladder_step(shares: int, expected: float) -> int:
    """By how many powers of two to move on the best guess."""
    if expected <= 0 or (shares < LADDER_SHARES_MIN and expected < LADDER_AIMS_MIN):
        return 0
    if shares == 0:
        return -SILENT_STEP_DOWN
    steps = math.log2(shares / expected)
    if abs(steps) < LADDER_STEP or (steps > 0 and shares < LADDER_SHARES_MIN):
        return 0
    return max(-LADDER_STEP_DOWN_MAX, min(STEP_UP_MAX, round(steps)))


def unheard_step(lowered: int) -> int:
    """By how many powers of two to go down after UNHEARD_AIMS without a share, and so many already."""
    return min(max(1, lowered), UNHEARD_STEP_MAX)


def next_retarget(shares: int) -> int:
    """At how many accepted shares of the window the engine should call for the next retarget."""
    return max(RETARGET_SHARES_MIN, min(2 * shares, shares + RETARGET_SHARES_MAX))


def _count_low(count: int) -> float:
    """Lower bound of a Poisson mean after `count` events (Wilson-Hilferty approximation of Garwood)."""
    root = 1 - 1 / (9 * count) - Z_STEADY / (3 * math.sqrt(count))
    return float(count * max(root, 0.0) ** 3)


def _count_high(count: int) -> float:
    """Upper bound of a Poisson mean after `count` events."""
    more = count + 1
    return float(more * (1 - 1 / (9 * more) + Z_STEADY / (3 * math.sqrt(more))) ** 3)
