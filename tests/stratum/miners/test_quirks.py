"""What firmware gets wrong, and we take in stride: a conversation for each sentence of the protocol notes."""

import itertools
from typing import Any

import msgspec
import pytest
import trio

from stratum.miners.channel import Channel
from stratum.miners.connection import Connection
from stratum.miners.extranonce import ExtranonceSpace
from stratum.miners.liveness import SessionLimits
from stratum.miners.switchboard import BoardLimits, Switchboard
from stratum.miners.turns.connection_limits import ConnectionBounds, ConnectionLimits, Place
from stratum.miners.vardiff import VardiffPolicy
from tests.stages.sessions import Heard, SessionStage, encode, make_work, words

SUBSCRIBE = b'{"id":1,"method":"mining.subscribe","params":["bmminer/2.0"]}\n'
AUTHORIZE = b'{"id":2,"method":"mining.authorize","params":["acme.c01.u1","x"]}\n'
ROLL_ALL = '["version-rolling"],{"version-rolling.mask":"ffffffff","version-rolling.min-bit-count":2}'


def configure(params: str, number: int = 3) -> bytes:
    return b'{"id":%d,"method":"mining.configure","params":[%b]}\n' % (number, params.encode())


# Antminer takes the first line that it receives for the subscribe reply.


def test_antminer_hears_nothing_before_the_subscribe_reply() -> None:
    stage = SessionStage()
    miner = stage.connect()
    stage.publish(make_work(refresh=1))
    stage.advance(8)
    stage.publish(make_work(height=2))
    assert miner.hear() == []
    assert words(miner.say(SUBSCRIBE)) == "result"


def test_antminer_hears_no_notification_between_subscribe_and_the_authorize_reply() -> None:
    stage = SessionStage()
    miner = stage.connect()
    miner.say(configure(ROLL_ALL) + SUBSCRIBE)
    stage.publish(make_work(height=2))
    stage.advance(25)
    assert miner.hear() == []
    assert words(miner.say(AUTHORIZE)) == "result set_version_mask set_difficulty notify"


def test_antminer_hears_of_its_version_mask_only_after_the_authorize_reply() -> None:
    miner = SessionStage().connect()
    assert words(miner.say(SUBSCRIBE + configure(ROLL_ALL))) == "result result"
    heard = miner.say(AUTHORIZE)
    assert words(heard) == "result set_version_mask set_difficulty notify"
    assert heard[1]["params"] == ["1fffe000"]


def test_a_miner_that_did_not_configure_hears_of_no_version_mask() -> None:
    miner = SessionStage().connect()
    assert words(miner.say(SUBSCRIBE + AUTHORIZE)) == "result result set_difficulty notify"


def test_antminer_configures_after_authorize_and_does_not_wait() -> None:
    stage = SessionStage()
    miner = stage.connect()
    late = configure(
        '["version-rolling"],{"version-rolling.mask":"00c00000","version-rolling.min-bit-count":2}'
    )
    assert words(miner.say(SUBSCRIBE + AUTHORIZE)) == "result result set_difficulty notify"
    share = miner.share(rolled=0x00400000)
    heard = miner.say(late + encode(9, "mining.submit", *share, "00400000"))
    assert heard == [
        {"id": 3, "result": {"version-rolling": True, "version-rolling.mask": "00c00000"}, "error": None}
    ]
    stage.judge()
    assert miner.hear() == [{"id": 9, "result": True, "error": None}]


@pytest.mark.parametrize(
    "hint", ["", ',"version-rolling.min-bit-count":"2"', ',"version-rolling.min-bit-count":null']
)
def test_whatsminer_leaves_min_bit_count_out_and_others_send_it_as_a_string(hint: str) -> None:
    miner = SessionStage().connect()
    heard = miner.say(configure('["version-rolling"],{"version-rolling.mask":"1fffe000"' + hint + "}"))
    assert heard[0]["result"] == {"version-rolling": True, "version-rolling.mask": "1fffe000"}


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("[]", {}),
        ("[],{}", {}),
        ('["version-rolling"]', {"version-rolling": True, "version-rolling.mask": "1fffe000"}),
        (ROLL_ALL, {"version-rolling": True, "version-rolling.mask": "1fffe000"}),
        (
            '["version-rolling"],{"version-rolling.mask":"0x3fffe000"}',
            {"version-rolling": True, "version-rolling.mask": "1fffe000"},
        ),
        ('["version-rolling"],{"version-rolling.mask":"e0001fff"}', {"version-rolling": False}),
        ('["version-rolling"],{"version-rolling.mask":"none"}', {"version-rolling": False}),
        ('["minimum-difficulty"],{"minimum-difficulty.value":1e-8}', {"minimum-difficulty": True}),
        ('["minimum-difficulty"],{"minimum-difficulty.value":"1e-8"}', {"minimum-difficulty": True}),
        ('["minimum-difficulty"],{"minimum-difficulty.value":0}', {"minimum-difficulty": False}),
        ('["minimum-difficulty"],{"minimum-difficulty.value":1e300}', {"minimum-difficulty": False}),
        ('["minimum-difficulty"]', {"minimum-difficulty": False}),
        ('["subscribe-extranonce"]', {"subscribe-extranonce": True}),
        ('["info"],{"info.hw-version":"S19 Pro"}', {"info": True}),
        ('["time-travel"]', {"time-travel": False}),
        (
            '["minimum-difficulty","version-rolling","time-travel","version-rolling"],'
            '{"minimum-difficulty.value":0,"version-rolling.mask":"00c00000","other":1}',
            {
                "minimum-difficulty": False,
                "version-rolling": True,
                "version-rolling.mask": "00c00000",
                "time-travel": False,
            },
        ),
    ],
)
def test_m30s_reconnects_for_ever_when_told_what_it_did_not_ask(asked: str, answered: dict[str, Any]) -> None:
    heard = SessionStage().connect().say(configure(asked))
    assert heard == [{"id": 3, "result": answered, "error": None}]


# The order and shape of lines.


def test_authorize_may_come_before_subscribe() -> None:
    stage = SessionStage()
    miner = stage.connect()
    assert words(miner.say(AUTHORIZE)) == "result"
    assert words(miner.say(SUBSCRIBE)) == "result set_difficulty notify"
    assert miner.mine()["result"] is True


START = configure(ROLL_ALL) + SUBSCRIBE + AUTHORIZE
STARTED = "result result result set_version_mask set_difficulty notify"


def test_several_requests_arrive_in_one_packet() -> None:
    assert words(SessionStage().connect().say(START)) == STARTED


def test_a_request_arrives_one_byte_at_a_time() -> None:
    miner = SessionStage().connect()
    heard: list[Heard] = []
    for at in range(len(START)):
        heard += miner.say(START[at : at + 1])
    assert words(heard) == STARTED


def test_lines_end_with_carriage_returns_too() -> None:
    assert words(SessionStage().connect().say(START.replace(b"\n", b"\r\n"))) == STARTED


IDS = [
    b"1",
    b"-7",
    b"0",
    b"1.0",
    b"1e3",
    b"123456789012345678901234567890",
    b"null",
    b"true",
    b'""',
    b'"abc"',
    b'"1"',
    b'"\\u00e9\\"\\n"',
    '"é"'.encode(),
    b"[1, 2]",
    b'{"a" : 1}',
]


@pytest.mark.parametrize("raw_id", IDS, ids=repr)
@pytest.mark.parametrize("method", ["mining.ping", "mining.nonsense", "mining.submit", "mining.authorize"])
def test_an_id_is_echoed_as_it_came(raw_id: bytes, method: str) -> None:
    miner = SessionStage().mining()
    del miner.transcript[:]
    params = msgspec.json.encode(miner.share() if method == "mining.submit" else ["acme.c01.u1"])
    miner.say(b'{"id":%b,"method":"%b","params":%b}\n' % (raw_id, method.encode(), params))
    miner.stage.judge()
    assert bytes(miner.transcript).startswith(b'{"id":%b,"result":' % raw_id)


@pytest.mark.parametrize("method", ["mining.ping", "mining.submit"])
def test_an_id_may_be_missing(method: str) -> None:
    miner = SessionStage().mining()
    del miner.transcript[:]
    params = msgspec.json.encode(miner.share())
    miner.say(b'{"method":"%b","params":%b}\n' % (method.encode(), params))
    miner.stage.judge()
    assert bytes(miner.transcript).startswith(b'{"id":null,"result":')


# Version bits.


def test_rental_proxies_submit_six_parameters_without_configure() -> None:
    miner = SessionStage().mining()
    assert miner.submit(*miner.share(rolled=0x1FFFE000), "1fffe000")["result"] is True
    assert miner.submit(*miner.share(), "00000000")["result"] is True


def test_five_parameters_after_configure_mean_no_rolled_bits() -> None:
    miner = SessionStage().mining()
    miner.say(configure(ROLL_ALL))
    assert miner.mine()["result"] is True
    share = msgspec.json.encode([*miner.share(), None])
    miner.say(b'{"id":8,"method":"mining.submit","params":%b}\n' % share)
    miner.stage.judge()
    assert miner.hear() == [{"id": 8, "result": True, "error": None}]


@pytest.mark.parametrize("bits", ["40000000", "80000000", "c0000000", "00000001"])
def test_old_bmminer_rolls_bits_outside_its_mask_and_only_that_share_is_rejected(bits: str) -> None:
    miner = SessionStage().mining()
    miner.say(configure(ROLL_ALL))
    share = miner.share(rolled=int(bits, 16))
    assert miner.submit(*share, bits)["error"] == [20, "Version bits outside the mask", None]
    assert miner.session.closing is None
    assert miner.mine()["result"] is True


# How numbers are written.


@pytest.mark.parametrize(
    "write",
    [
        lambda number: f"{number:x}",
        lambda number: f"{number:016x}",
        lambda number: f"{number:08X}",
        lambda number: f"0x{number:x}",
        lambda number: number,
    ],
    ids=["without leading zeros", "with too many", "upper case", "0x", "as a number"],
)
def test_nonce_and_ntime_are_taken_as_firmware_writes_them(write: Any) -> None:
    miner = SessionStage().mining()
    worker, job_id, extranonce2, ntime, nonce = miner.share()
    written = (write(int(ntime, 16)), write(int(nonce, 16)))
    assert miner.submit(worker, job_id, extranonce2, *written)["result"] is True
    duplicate = miner.submit(worker, job_id, extranonce2.upper(), ntime, nonce)
    assert duplicate["error"] == [22, "Duplicate share", None], "bytes are remembered, not text"


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (2, "01020304050607"),  # extranonce2 too short
        (2, "010203040506070809"),
        (2, "0102030405060g08"),
        (2, 72623859790382856),  # bytes have no number
        (2, ""),
        (3, "6553f10000"),  # more than 32 bits
        (3, "time"),
        (3, ""),
        (4, -1),
        (4, 4294967296),
        (4, 1.5),
        (4, None),
        (4, ["00"]),
    ],
)
def test_what_is_not_clear_is_rejected_with_20(at: int, value: object) -> None:
    miner = SessionStage().mining()
    share: list[object] = list(miner.share())
    share[at] = value
    assert miner.submit(*share)["error"] == [20, "Malformed share", None]
    assert miner.session.closing is None


def test_escapes_in_a_submit_mean_what_they_mean() -> None:
    miner = SessionStage().mining()
    plain = msgspec.json.encode(miner.share())
    escaped = plain.replace(b"acme", b"\\u0061cme")
    for number, (params, verdict) in enumerate([(escaped, None), (plain, [22, "Duplicate share", None])]):
        miner.say(b'{"id":%d,"method":"mining.submit","params":%b}\n' % (number, params))
        miner.stage.judge()
        assert miner.hear()[0]["error"] == verdict


@pytest.mark.parametrize("size", [1, 2, 9])
def test_extranonce2_has_3_to_8_bytes_because_some_firmware_fails_beyond(size: int) -> None:
    stage = SessionStage()
    with pytest.raises(ValueError, match="3 to 8 bytes"):
        Channel(
            2,
            stage.source,
            engine=stage.engine,
            job_ids=stage.channel._job_ids,
            extranonces=ExtranonceSpace(4),
            extranonce2_size=size,
        )


# Jobs.


def test_some_firmware_follows_a_reconnect_only_without_a_host() -> None:
    stage = SessionStage()
    stage.admission.remembered_log2["acme.c01.u1"] = -26
    miner = stage.mining()
    heard: list[Heard] = []
    for _ in range(26):
        miner.ask("mining.submit", "acme.c01.u1", "1", "00" * 8, "00", "00")
        stage.judge()
        stage.advance(5)
        heard += [message for message in miner.hear() if message.get("method") == "client.reconnect"]
    assert heard == [{"id": None, "method": "client.reconnect", "params": []}]


@pytest.mark.parametrize("way", ["mining.extranonce.subscribe", "mining.configure"])
def test_who_can_change_its_extranonce_is_remembered(way: str) -> None:
    miner = SessionStage().mining()
    assert not miner.assignment.wants_extranonce
    miner.ask(way, *([["subscribe-extranonce"], {}] if way == "mining.configure" else []))
    assert miner.assignment.wants_extranonce


def test_a_miner_that_starts_its_search_anew_with_every_job_does_not_find_the_same_shares_again() -> None:
    """Some firmware begins each job at extranonce2 0 and nonce 0, and moves ntime on with its clock."""
    stage = SessionStage()
    miner = stage.mining()
    searched: set[int] = set()
    for _ in range(5):
        start = int(miner.job[7], 16)
        seconds = {start + second for second in range(10)}
        assert not searched & seconds, "this header has been tried"
        searched |= seconds
        stage.now_s += 10
        miner.session.difficulty.pending_log2 = miner.session.difficulty.log2
        stage.channel.waiting.add(miner.assignment)
        stage.serve_waiting()
        miner.hear()
    assert miner.mine()["result"] is True


class MemoryConnection(Connection):
    """A connection of a switchboard that goes nowhere: what was sent, and when."""

    def __init__(self, board: Switchboard, door: ConnectionLimits) -> None:
        self.jobs_at_s: list[float] = []
        self.job_ids: list[str] = []
        self.said: bytes | None = None
        place = door.enter("10.0.0.1")
        assert isinstance(place, Place)
        super().__init__(board, "10.0.0.1", place)

    def write(self, data: bytes) -> None:
        for line in data.splitlines():
            message = msgspec.json.decode(line)
            if message.get("method") == "mining.notify":
                self.jobs_at_s.append(trio.current_time())
                self.job_ids.append(message["params"][0])

    def read(self, bytes_max: int) -> bytes | None:
        said, self.said = self.said, None
        return said

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False

    def shut(self) -> None:
        self.open = False


class JournalOfNothing:
    durable = False

    async def commit(self, tallies: bytes) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.simulation
@pytest.mark.parametrize("work_every_s", [30, 1_000], ids=["in good times", "while the node is gone"])
async def test_some_miners_give_up_without_a_job_for_60_s(autojump_clock: object, work_every_s: int) -> None:
    stage, door = SessionStage(limits=SessionLimits(idle_s=3_600)), ConnectionLimits(ConnectionBounds())
    board = Switchboard(
        services=stage.services,
        connection_limits=door,
        journal=JournalOfNothing(),
        limits=BoardLimits(),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(board.run)
        board.distribution.publish(stage.channel, make_work(), rate=1)
        connections = [MemoryConnection(board, door) for _ in range(300)]  # more than are written in one go
        for number, connection in enumerate(connections):
            connection.said = SUBSCRIBE + AUTHORIZE.replace(b"u1", b"u%d" % number)
            board.readable(connection)
        started_s = trio.current_time()
        for refresh in range(1, 1 + 900 // work_every_s):
            await trio.sleep(work_every_s)
            board.distribution.publish(stage.channel, make_work(refresh=refresh), rate=1)
        await trio.sleep_until(started_s + 900)
        for connection in connections:
            at_s = [*connection.jobs_at_s, started_s + 900]
            assert max(later - earlier for earlier, later in itertools.pairwise(at_s)) <= 55
            assert len(set(connection.job_ids)) == len(connection.job_ids) < 900 / 25
        nursery.cancel_scope.cancel()


def test_job_ids_are_never_used_again() -> None:
    stage = SessionStage()
    miner = stage.mining()
    ids = [miner.job[0]]
    for refresh in range(40):
        stage.publish(make_work(height=refresh // 3, refresh=refresh))
        miner.session.difficulty.pending_log2 = miner.session.difficulty.log2
        stage.channel.waiting.add(miner.assignment)
        stage.serve_waiting()
        ids += [message["params"][0] for message in miner.hear() if message["method"] == "mining.notify"]
    assert len(ids) == 81
    assert [int(job_id, 16) for job_id in ids] == sorted({int(job_id, 16) for job_id in ids})


def test_difficulty_is_an_integer_from_1_upwards_and_always_a_power_of_two() -> None:
    policy = VardiffPolicy(difficulty_log2_min=-32, difficulty_log2_max=63)
    for wish, wire in [
        (1, b"[1]"),
        (65_536, b"[65536]"),
        (100_000, b"[65536]"),
        (3, b"[2]"),
        (0.75, b"[0.5]"),
        (1 << 62, b"[4611686018427387904]"),
    ]:
        stage = SessionStage(policy=policy)
        miner = stage.connect()
        miner.say(SUBSCRIBE)
        miner.ask("mining.suggest_difficulty", wish)
        miner.say(AUTHORIZE)
        stage.serve_waiting()
        assert b'"mining.set_difficulty","params":%b}' % wire in bytes(miner.transcript)


# Names.


@pytest.mark.parametrize(
    "name",
    [
        "acme",
        "acme.c07.r12s04",
        "acme.c07 r12/s04#5!",
        "acme.контейнер.ünit",
        "acme." + "x" * 122,
    ],
)
def test_worker_names_are_anything_printable_up_to_127_bytes(name: str) -> None:
    miner = SessionStage().mining(name)
    assert miner.mine()["result"] is True


@pytest.mark.parametrize(
    "name", ["acme." + "x" * 123, "acme." + "é" * 62, "", "x" * 300, "acme.\u0000", "acme.\n"]
)
def test_longer_or_unprintable_names_are_refused(name: str) -> None:
    miner = SessionStage().connect()
    miner.say(SUBSCRIBE)
    heard = miner.ask("mining.authorize", name, "x")
    assert heard[0]["error"][0] in (20, 24)
    assert not miner.session.authorised


def test_some_miners_cut_the_name_at_63_in_submits() -> None:
    name = "acme.container-with-a-long-name.unit-with-an-even-longer-name-than-that"
    assert len(name) > 63
    miner = SessionStage().mining(name)
    _, *rest = miner.share()
    assert miner.submit(name[:63], *rest)["result"] is True
    _, *rest = miner.share()
    assert miner.submit(name[:62], *rest)["error"][0] == 24


def test_an_unknown_tenant_reads_why_in_its_log() -> None:
    miner = SessionStage().connect()
    heard = miner.ask("mining.authorize", "umbrella.c01.u1", "x")
    assert heard[0]["error"] == [24, "Unknown tenant: worker names are tenant.container.unit", None]


@pytest.mark.parametrize(
    "password", [[], [None], [""], ["x"], [7], [{}], ["x" * 300], ["d=,md=;d=x d=-1 d=nan d=1/0"], ["\u0007"]]
)
def test_no_password_fails_a_miner(password: list[object]) -> None:
    miner = SessionStage().connect()
    miner.say(SUBSCRIBE)
    assert words(miner.ask("mining.authorize", "acme.c01.u1", *password)) == "result set_difficulty notify"
    assert miner.difficulty == 2.0**-26
