"""Whose a share is and when it was made: what a line brings late, and what is mined under the name of a
machine that is off, by whoever likes to."""

from collections.abc import Mapping, Set

import msgspec
import pytest
import trio
from trio.testing import MockClock

from payouts.rates import Scheme
from pool.fleet.hashrate import UPDATE_S, HashrateBook
from pool.fleet.registry import Registry, Snapshot, TenantRecord
from pool.power.control.accepted_shares import AcceptedShares
from pool.power.control.contract import MachineName
from pool.power.control.peers import Peers
from pool.power.control.whereabouts import Whereabouts
from pool.power.curtailment.course import doing
from pool.power.curtailment.machines import EventMachine
from pool.power.curtailment.seen import SeenShares
from pool.power.curtailment.states import EventState, MachineState
from stratum.miners.contracts import Admitted
from stratum.tallies import Verdict, pack_tallies
from tests.fakes.owners import ConnectionFrom
from tests.pool.power.curtailment.test_course import NAME, NOW_S, event, machine

HOME, ELSEWHERE = "10.20.7.12", "203.0.113.5"
LOG2 = 17
SHARE_S = 5.0  # what the machine needs for one of those


class Machine:
    """One machine of an event, a name that anybody may say, and a pool that hears shares under it."""

    def __init__(self, *, knows_places: bool = True) -> None:
        tenant = TenantRecord(id=1, name="acme", active=True, scheme=Scheme.PPS, fee_bps=0)
        self.registry = Registry(Snapshot((tenant,), (), ()))
        admitted = self.registry.admit(str(NAME), "simulated/1.0", ConnectionFrom())
        assert isinstance(admitted, Admitted)
        self.registry.prove(admitted.worker)
        self.number = admitted.worker
        self.hashrates = HashrateBook(self.registry, trio.current_time())
        self.whereabouts = Whereabouts()
        self.seen = SeenShares(self.registry, self.hashrates, places=self if knows_places else None)
        self.began_s = trio.current_time()
        self.of_event: EventMachine | None = None
        self.state = EventState.CURTAILING
        self._ages_s: dict[str, float] = {}
        self._owed: dict[str, float] = {}
        self.asked = 0
        self.away = False  # who serves it does not say from where shares come

    @property
    def now_s(self) -> int:
        return NOW_S + int(trio.current_time() - self.began_s)

    async def look_around(self, names: Set[MachineName]) -> None:
        self.whereabouts.keep(names)
        if not self.away:
            self.whereabouts.saw(self.peers(), lambda *place: True, trio.current_time())

    def peers(self) -> list[Peers]:
        now_s = trio.current_time()
        return [
            Peers(
                tenant=NAME.tenant,
                container=NAME.container,
                units=(NAME.unit,) * len(self._ages_s),
                addresses=tuple(self._ages_s),
                agents=("bosminer",) * len(self._ages_s),
                accepted=b"\1" * len(self._ages_s),
                ages_s=tuple(int(now_s - at_s) for at_s in self._ages_s.values()),
            )
        ]

    def share(self, address: str, log2: int = LOG2, count: int = 1, age_s: float = 0.0) -> None:
        tallies = pack_tallies({(self.number, 1, log2, Verdict.ACCEPTED): count})
        self.hashrates.add(tallies, trio.current_time(), age_s)
        self._ages_s[address] = trio.current_time() - age_s

    async def passes(self, seconds: float, work: Mapping[str, float] | None = None) -> None:
        """Time; `work` is done from each address, as parts of what the machine does."""
        for _ in range(int(seconds / UPDATE_S)):
            await trio.sleep(UPDATE_S)
            for address, part in (work or {}).items():
                owed = self._owed.get(address, 0.0) + part * UPDATE_S / SHARE_S
                self._owed[address] = owed % 1
                if owed >= 1:
                    self.share(address, count=int(owed))
            await self.look_around({NAME})
            self._look()

    def told(self, state: MachineState = MachineState.ASKED, **changed: int | None) -> None:
        """Told to pause, where it mines from then."""
        addresses = {it for it, at_s in self._ages_s.items() if trio.current_time() - at_s < 600}
        self.whereabouts.paused(NAME, addresses)
        self.of_event = machine(state, asked_at_s=self.now_s, changed_at_s=self.now_s, **changed)
        self._look()

    def wakes(self) -> None:
        assert self.of_event is not None
        self.state = EventState.RESTORING
        changed = {"state": MachineState.WAKING, "changed_at_s": self.now_s, "asked_at_s": self.now_s}
        self.of_event = msgspec.structs.replace(self.of_event, **changed)

    def _look(self) -> None:
        """As rounds do."""
        looks = self.seen.looks()
        if (it := self.of_event) is None:
            return
        found = doing(event(self.state), {1: it}, lambda worker: looks(self.number), {}, self.now_s)
        self.asked += len(found.asks)
        for change in found.changes:
            values = {"state": change.after, "changed_at_s": self.now_s, **change.values}
            it = msgspec.structs.replace(it, **values)
        if found.asked:
            it = msgspec.structs.replace(it, asks=it.asks + 1, asked_at_s=self.now_s)
        self.of_event = it

    @property
    def is_now(self) -> MachineState:
        assert self.of_event is not None
        return self.of_event.state


async def off(*, knows_places: bool = True) -> Machine:
    """One that mined for an hour, and is proven to be off."""
    it = Machine(knows_places=knows_places)
    await it.passes(3_600, {HOME: 1.0})
    it.told()
    await it.passes(90)
    assert it.is_now is MachineState.CONFIRMED
    return it


@pytest.mark.parametrize("state", [MachineState.ASKED, MachineState.CONFIRMED, MachineState.WAKING])
async def test_a_share_that_comes_minutes_late_is_of_when_it_was_made(
    state: MachineState, autojump_clock: MockClock
) -> None:
    """A line that was cut while the machine was told brings what it did before: of one that is off it says
    nothing, nor of one that is to come back. By when it came it mined on, or again, or was back."""
    it = Machine()
    await it.passes(600, {HOME: 1.0})
    it.told(state, asks=2)
    if state is MachineState.WAKING:
        it.state = EventState.RESTORING
    await it.passes(40)
    it.share(HOME, age_s=240.0)
    await it.passes(10)
    assert it.is_now is state
    assert it.seen.looks()(it.number).age_s < 60  # its last one of before: nothing was younger
    it.share(HOME)
    await it.passes(10)
    assert it.is_now is not state


async def test_who_waits_for_a_machine_takes_no_share_of_before_for_its_return(
    autojump_clock: MockClock,
) -> None:
    shares = AcceptedShares(lambda tenant, container, unit: 7)
    share = pack_tallies({(7, 1, LOG2, Verdict.ACCEPTED): 1})
    await trio.sleep(600)
    shares.forget(NAME)
    shares.watch([NAME])
    await trio.sleep(30)
    shares.count(share, age_s=240.0)
    assert not shares.has_mined(NAME)
    shares.count(share, age_s=20.0)
    assert shares.has_mined(NAME)


async def test_shares_of_a_stranger_under_a_name_neither_refuse_a_machine_nor_have_it_drift(
    autojump_clock: MockClock,
) -> None:
    """His best way: a share of next to nothing under each name, every 20 s. Two of them had a machine that
    was off be refused and let go, so that of an hour it had forgone nothing and the site was short of it."""
    outcomes = {}
    for knows_places in (False, True):
        it = Machine(knows_places=knows_places)
        await it.passes(3_600, {HOME: 1.0})
        it.told()
        for _ in range(3_600 // 20):
            it.share(ELSEWHERE, log2=0)
            await it.passes(20)
        outcomes[knows_places] = it.is_now
        assert (it.asked == 0) is knows_places
    assert outcomes == {False: MachineState.REFUSED, True: MachineState.CONFIRMED}


@pytest.mark.parametrize(("part", "drifts"), [(0.4, False), (0.7, True)])
async def test_to_have_a_machine_seem_to_mine_from_elsewhere_takes_half_of_its_work(
    part: float, drifts: bool, autojump_clock: MockClock
) -> None:
    """Which is its tenant's, and comes off what it forwent. A machine that gets itself another address to
    mine on unseen is found out likewise, unless it does less than half: so much of its watts it may draw."""
    it = await off()
    await it.passes(1_200, {ELSEWHERE: part})
    assert (it.is_now is not MachineState.CONFIRMED) is drifts


async def test_a_machine_is_back_with_its_first_share_from_where_it_was_and_with_its_work_from_elsewhere(
    autojump_clock: MockClock,
) -> None:
    for address, within_s in ((HOME, 20), (ELSEWHERE, 300)):
        it = await off()
        await it.passes(1_800)
        it.wakes()
        it.share(ELSEWHERE, log2=0)
        states = []
        for seconds, work in ((60, {}), (within_s, {address: 1.0})):
            await it.passes(seconds, work)
            states.append(it.is_now)
        assert states == [MachineState.WAKING, MachineState.RESTORED]


async def test_who_was_at_two_addresses_is_known_by_his_work_alone(autojump_clock: MockClock) -> None:
    """A stranger who was there before has no place of the machine's, and takes it none."""
    it = Machine()
    await it.passes(600, {HOME: 1.0, ELSEWHERE: 0.01})
    it.told()
    await it.passes(90)
    assert it.is_now is MachineState.CONFIRMED
    await it.passes(600, {ELSEWHERE: 0.1})
    assert it.is_now is MachineState.CONFIRMED
    await it.passes(600, {HOME: 1.0})
    assert it.is_now is not MachineState.CONFIRMED


async def test_who_mines_on_is_not_taken_for_silent_while_nobody_can_tell_whose_shares_these_are(
    autojump_clock: MockClock,
) -> None:
    """He was at two addresses, or takes another one when he is told to pause, and says yes."""
    for before, after in (({HOME: 0.9, ELSEWHERE: 0.1}, {HOME: 1.0}), ({HOME: 1.0}, {ELSEWHERE: 1.0})):
        it = Machine()
        await it.passes(600, before)
        it.told()
        seen = set()
        for _ in range(60):
            await it.passes(10, after)
            seen.add(it.is_now)
        assert seen == {MachineState.ASKED, MachineState.REFUSED}


async def test_where_nobody_says_from_where_shares_come_a_name_is_all_there_is(
    autojump_clock: MockClock,
) -> None:
    it = await off()
    it.away = True
    await it.passes(120)
    it.share(ELSEWHERE, log2=0)
    await it.passes(10)
    assert it.is_now is not MachineState.CONFIRMED
