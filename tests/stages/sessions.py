"""A pool without sockets and without time: sessions on the real engine, and miners that the test speaks for.

`SessionStage` does with sessions what the switchboard does with connections, when the test says so and at
the time that the test says. Shares are found by really hashing, so difficulties here are tiny: 2^-32 is one
hash.
"""

import hashlib
import itertools
import struct
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from stratum._engine import Engine
from stratum.difficulty import target_from_difficulty_log2
from stratum.job import Work, swap_words
from stratum.miners.assignment import Assignment
from stratum.miners.channel import Channel, JobIds, Moved, WorkSource
from stratum.miners.connection import write_all
from stratum.miners.contracts import Admitted, Refusal, Services
from stratum.miners.distribution import ANEW_INTERVAL_S, Distribution
from stratum.miners.extranonce import ExtranonceSpace
from stratum.miners.liveness import SessionLimits
from stratum.miners.mining_session import State
from stratum.miners.owner import Owner
from stratum.miners.session import MinerSession
from stratum.miners.silent_machines import SilentMachines
from stratum.miners.switchboard import TICK_BUCKETS, TICK_S
from stratum.miners.vardiff import VardiffPolicy
from stratum.tallies import Tally, Verdict, unpack_tallies
from tests.fakes.work_sources import SourceThatKeeps

NTIME: Final = 1_700_000_000
CHECK_S: Final = TICK_S * TICK_BUCKETS
# Production's range in a small way: the start is 64 times the least, as 65,536 is of 1,024.
PASSWORD: Final = "x"
LEAST_LOG2: Final = -32
START_LOG2: Final = -26
MOST_LOG2: Final = -10

SUBSCRIBE: Final = ("mining.subscribe", "test/1")
AUTHORIZE: Final = ("mining.authorize", "acme.c01.u1", "x")
ROLLING: Final = (["version-rolling"], {"version-rolling.mask": "1fffe000"})
WAYS: dict[State, tuple[tuple[str, ...], ...]] = {
    State.CONNECTED: (),
    State.SUBSCRIBED: (SUBSCRIBE,),
    State.AUTHORISED: (AUTHORIZE,),
    State.MINING: (SUBSCRIBE, AUTHORIZE),
}

Heard = dict[str, Any]


_salts = itertools.count(1)


def make_work(
    height: int = 1,
    *,
    refresh: int = 0,
    levels: int = 3,
    upstream: bool = False,
    salt: int = 0,
    **changes: Any,
) -> Work:
    """Work on a block of its own for each height; `refresh` gives other work on the same block.

    It can be made anew, with another salt, but not as that of an upstream.
    """

    def anew() -> Work:
        return make_work(height, refresh=refresh, levels=levels, salt=next(_salts), **changes)

    work = Work(
        prevhash_internal=hashlib.sha256(b"block %d" % height).digest(),
        coinbase1=(b"\x03" if upstream else b"\x01") * 40 + struct.pack("<III", height, refresh, salt),
        coinbase2=b"\x02" * 60,
        branch=tuple(hashlib.sha256(b"node %d" % level).digest() for level in range(levels)),
        version=0x20000000,
        nbits=0x1D00FFFF,
        ntime=NTIME,
        ntime_min=NTIME - 600,
        ntime_max=NTIME + 7_200,
        height=height,
        network_target=0,
        anew=None if upstream else anew,
    )
    return msgspec.structs.replace(work, **changes)


class AdmissionForAcme:
    """Knows the tenant acme; numbers its workers from 1, and remembers what the test tells it to.

    `channels` says what a worker is to mine, by its name.
    """

    def __init__(self) -> None:
        self.channels: dict[str, Channel] = {}
        self.numbers: dict[str, int] = {}
        self.agents: list[str] = []
        self.remembered_log2: dict[str, int] = {}

    def admit(self, name: str, agent: str, owner: Owner) -> Admitted | Refusal:
        self.agents.append(agent)
        if unquote(name).partition(".")[0] != "acme":
            return Refusal("Unknown tenant: worker names are tenant.container.unit")
        number = self.numbers.setdefault(unquote(name), len(self.numbers) + 1)
        return Admitted(number, self.remembered_log2.get(name), self.channels.get(name))

    def leave(self, owner: Owner) -> None:
        pass


class PlacementGuessForOneAddress:
    """Remembers where the last one was sent that was asked to come back; sends nobody away twice."""

    def __init__(self) -> None:
        self.guesses: dict[str, Channel] = {}
        self.sent_away: list[tuple[Channel, Channel]] = []  # from where to where

    def guess(self, address: str) -> Channel | None:
        return self.guesses.get(address)

    def come_back(self, address: str, here: Channel, channel: Channel) -> bool:
        if (here, channel) in self.sent_away:
            return False
        self.sent_away.append((here, channel))
        self.guesses[address] = channel
        return True


class SessionStage:
    """Engine, channels, sessions; `now_s` moves only in `advance`. `channel` is the first of them."""

    def __init__(
        self,
        work: Work | None = None,
        *,
        limits: SessionLimits | None = None,
        policy: VardiffPolicy | None = None,
        start_log2: int = START_LOG2,
        extranonce1_size: int = 4,
        silent: SilentMachines | None = None,
    ) -> None:
        self.now_s = 1000.0
        self.engine = Engine()
        self.source = SourceThatKeeps()
        self.admission = AdmissionForAcme()
        self.placement_guess = PlacementGuessForOneAddress()
        self.job_ids = JobIds(started_at_unix_s=1)
        self.distribution = Distribution(
            lambda channel, work: self.services.start_of(channel, work),
            judge=self.judge,
            write_all=write_all,
            refresh_spread_s=0.0,
            clock=lambda: self.now_s,
        )
        self.channel = self.add_channel(extranonce1_size, 8)
        self.services = Services(
            engine=self.engine,
            channel=self.channel,
            admission=self.admission,
            placement_guess=self.placement_guess,
            vardiff=policy or VardiffPolicy(difficulty_log2_min=LEAST_LOG2, difficulty_log2_max=MOST_LOG2),
            start_difficulty_log2=start_log2,
            limits=limits or SessionLimits(),
            silent=silent,
        )
        self.miners: list[Miner] = []
        self.publish(work or make_work())

    def add_channel(
        self,
        extranonce1_size: int = 4,
        extranonce2_size: int = 8,
        *,
        like: Channel | None = None,
        source: WorkSource | None = None,
    ) -> Channel:
        """Another channel; with the extranonces of `like`, or with some of its own, which begin elsewhere."""
        number = len(self.distribution.channels) + 1
        space = like.extranonces if like else ExtranonceSpace(extranonce1_size, first=(number - 1) << 4)
        channel = Channel(
            number,
            source or self.source,
            engine=self.engine,
            job_ids=self.job_ids,
            extranonces=space,
            extranonce2_size=like.extranonce2_size if like else extranonce2_size,
            monotonic_s=lambda: self.now_s,
        )
        self.distribution.add_channel(channel)
        return channel

    def move(self, miner: "Miner", channel: Channel) -> Moved | None:
        return self.distribution.move(miner.assignment, channel)

    def connect(self, worker: str = "acme.c01.u1") -> "Miner":
        miner = Miner(self, worker)
        self.miners.append(miner)
        return miner

    def mining(self, worker: str = "acme.c01.u1", password: str = PASSWORD) -> "Miner":
        """A miner that has subscribed and authorised, and whose ears are empty."""
        miner = self.connect(worker)
        miner.ask("mining.subscribe", "test/1")
        miner.ask("mining.authorize", worker, password)
        if not miner.job:  # with another difficulty than the work has for everybody
            self.serve_waiting()
            miner.hear()
        return miner

    def publish(self, work: Work, channel: Channel | None = None, *, rate: int = 1) -> None:
        """New work, which everybody has at once."""
        self.distribution.publish(channel or self.channel, work, rate=rate)
        self.refresh()

    def serve_waiting(self) -> None:
        """What happens every ANEW_INTERVAL_S."""
        self.distribution.serve_waiting()
        self.refresh()

    def refresh(self) -> None:
        """Everybody has what is due in due course."""
        for _ in self.distribution.refreshes():
            pass

    def tallies(self) -> list[Tally]:
        """What was judged since the last time."""
        return list(unpack_tallies(self.engine.collect_tallies()))

    def judge(self) -> None:
        replies, _, retarget = self.engine.validate()
        for miner, reply in replies:
            miner.write(reply)
        for miner in retarget:
            miner.session.retarget(self.now_s)

    def advance(self, seconds: float) -> None:
        """Let time pass: a look at each session every CHECK_S, who waits served every ANEW_INTERVAL_S."""
        end_s = self.now_s + seconds
        while True:
            look_s = (self.now_s // CHECK_S + 1) * CHECK_S
            serve_s = (self.now_s // ANEW_INTERVAL_S + 1) * ANEW_INTERVAL_S
            if min(look_s, serve_s) > end_s:
                break
            self.now_s = min(look_s, serve_s)
            if self.now_s == look_s:
                self.tick()
            if self.now_s == serve_s:
                self.serve_waiting()
        self.now_s = end_s

    def tick(self) -> None:
        for miner in self.miners:
            if miner.open and miner.session.closing is None:
                miner.write(miner.session.tick(self.now_s))


class Miner:
    """One connection, and its firmware's memory: the last job, and the difficulty for it."""

    def __init__(self, stage: SessionStage, worker: str) -> None:
        self.stage = stage
        self.worker = worker
        self.open = True
        self.address = "10.0.0.1"
        self.session = MinerSession(stage.services, self, stage.now_s)
        self.transcript = bytearray()  # all that it was sent
        self._unheard = bytearray()
        self.job: list[Any] = []  # the parameters of the last mining.notify
        self.difficulty: float | None = None
        self.extranonce1 = b""
        self.extranonce2_size = 8
        self._extranonces: dict[str, tuple[bytes, int]] = {}  # by job, of when it came
        self._ids = itertools.count(1)
        self._nonces = itertools.count()

    @property
    def assignment(self) -> Assignment:
        return self.session.assignment

    @property
    def channel(self) -> Channel:
        """That it mines from its next job on."""
        return self.session.assignment.channel

    def write(self, data: bytes) -> None:
        """stratum.miners.session.Owner."""
        self.transcript += data
        self._unheard += data

    def make_room(self) -> None:
        """stratum.miners.session.Owner."""
        self.leave()

    def say(self, data: bytes) -> list[Heard]:
        """Send bytes; what is heard at once, shares not judged yet."""
        line = self.stage.engine.feed(self.session.slot, data)
        while line is not None:
            self.write(self.session.receive_line(line, self.stage.now_s))
            line = self.stage.engine.feed(self.session.slot, b"")
        return self.hear()

    def hear(self) -> list[Heard]:
        """Everything that was sent since the last time."""
        lines = bytes(self._unheard).splitlines()
        self._unheard.clear()
        messages = [msgspec.json.decode(line) for line in lines]
        for message in messages:
            self._understand(message)
        return messages

    def _understand(self, message: Heard) -> None:
        if message.get("method") == "mining.notify":
            self.job = message["params"]
            self._extranonces[self.job[0]] = self.extranonce1, self.extranonce2_size
        elif message.get("method") == "mining.set_difficulty":
            self.difficulty = message["params"][0]
        elif isinstance(message.get("result"), list):
            self._take_extranonces(*message["result"][1:])
        elif message.get("method") == "mining.set_extranonce":
            self._take_extranonces(*message["params"])

    def _take_extranonces(self, extranonce1: str, extranonce2_size: int) -> None:
        self.extranonce1, self.extranonce2_size = bytes.fromhex(extranonce1), extranonce2_size

    def ask(self, method: str, *params: object) -> list[Heard]:
        """Send a request; what is heard at once."""
        return self.say(encode(next(self._ids), method, *params))

    def submit(self, *params: object) -> Heard:
        """Send a share; its verdict, which must be the only thing to be heard."""
        heard = self.ask("mining.submit", *params)
        self.stage.judge()
        (verdict,) = heard + self.hear()
        return verdict

    def share(
        self,
        difficulty_log2: int | None = None,
        *,
        job: list[Any] | None = None,
        hit: bool = True,
        extranonce1: bytes | None = None,
        **changes: int,
    ) -> tuple[str, str, str, str, str]:
        """A share that nobody has sent yet, at the session's difficulty, or just not with hit=False.

        It has the extranonces that the miner had when the job came, or another connection's.
        """
        job = job or self.job
        log2 = self.session.difficulty.log2 if difficulty_log2 is None else difficulty_log2
        target = target_from_difficulty_log2(log2)
        own, size = self._extranonces.get(job[0], (self.extranonce1, self.extranonce2_size))
        whole = changes.get("extranonce2", 0x0102030405060708)
        extranonce2 = whole.to_bytes(8, "big")[-size:]
        ntime = changes.get("ntime", int(job[7], 16))
        prefix = own if extranonce1 is None else extranonce1
        head = header(job, prefix + extranonce2, ntime, changes.get("rolled", 0))
        for nonce in self._nonces:
            number = struct.pack("<I", nonce)
            found = hashlib.sha256(hashlib.sha256(head + number).digest()).digest()
            if (int.from_bytes(found, "little") <= target) == hit:
                return self.worker, job[0], extranonce2.hex(), f"{ntime:08x}", f"{nonce:08x}"
        raise AssertionError("never ends")

    def mine(self, **options: Any) -> Heard:
        """Find and send a share; its verdict."""
        return self.submit(*self.share(**options))

    def leave(self) -> None:
        self.open = False
        self.session.close()


class ThreeChannels:
    """Three channels: the first one, its twin with the same extranonces, and one with others."""

    def __init__(self, **options: Any) -> None:
        self.stage = SessionStage(make_work(1), **options)
        self.own = self.stage.channel
        self.twin = self.stage.add_channel(like=self.own)
        self.other = self.stage.add_channel(2, 4)
        self.heights = {self.own: 100, self.twin: 200, self.other: 300}
        for channel in (self.twin, self.other):
            self.publish(channel)

    def publish(self, channel: Channel, *, block: bool = False) -> None:
        """Other work on the same block, or on another one."""
        self.heights[channel] += block
        work = make_work(self.heights[channel], refresh=self.stage.job_ids.last)
        self.stage.publish(work, channel, rate=channel.number)

    def miner(self, *, subscribed: bool = False, rolling: bool = False, worker: str = "acme.c01.u1") -> Miner:
        """One that mines on the first channel; `subscribed` to changes of extranonces."""
        miner = self.stage.connect(worker)
        if rolling:
            miner.ask("mining.configure", *ROLLING)
        miner.ask("mining.subscribe", "test/1")
        miner.ask("mining.authorize", worker, "x")
        if subscribed:
            miner.ask("mining.extranonce.subscribe")
        return miner

    def credited(self) -> list[tuple[int, Verdict, int]]:
        """Rate, verdict and count of everything judged since the last time."""
        return [(it.rate, it.verdict, it.count) for it in self.stage.tallies()]


def header(job: list[Any], extranonces: bytes, ntime: int, rolled: int) -> bytes:
    """The first 76 bytes of the block header, from what mining.notify said and nothing else."""
    _, prevhash, coinbase1, coinbase2, branch, version, nbits, _, _ = job
    coinbase = bytes.fromhex(coinbase1) + extranonces + bytes.fromhex(coinbase2)
    node = hashlib.sha256(hashlib.sha256(coinbase).digest()).digest()
    for sibling in branch:
        node = hashlib.sha256(hashlib.sha256(node + bytes.fromhex(sibling)).digest()).digest()
    return (
        struct.pack("<I", int(version, 16) | rolled)
        + swap_words(bytes.fromhex(prevhash))
        + node
        + struct.pack("<II", ntime, int(nbits, 16))
    )


def encode(number: object, method: str, *params: object) -> bytes:
    return msgspec.json.encode({"id": number, "method": method, "params": params}) + b"\n"


def words(heard: list[Heard]) -> str:
    """What was heard, in short: `result`, an error's code, or a notification's last word."""
    return " ".join(_word(message) for message in heard)


def _word(message: Heard) -> str:
    if "method" in message:
        return str(message["method"]).rpartition(".")[2]
    return "result" if message["error"] is None else str(message["error"][0])


def in_state(state: State, stage: SessionStage | None = None) -> Miner:
    miner = (stage or SessionStage()).connect()
    for method, *params in WAYS[state]:
        miner.ask(method, *params)
    assert miner.session.state is state
    return miner
