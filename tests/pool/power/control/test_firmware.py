"""Each vendor's firmware, as a simulator of its own speaks it: told to pause, to go on, and read."""

from typing import Any

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pool.md5_crypt import md5_crypt
from pool.power.control.contract import Action, Answer, Answered, Firmware
from pool.power.control.firmware import Credential, firmware_of
from pool.power.control.network import VENDORS, Order, Reached
from pool.power.control.whatsminer3 import V3_PORT
from pool.power.control.wire import ANSWER_BYTES_MAX
from pool.swarm.machine_api import PASSWORDS, SPEAKS, Temper
from tests.stages.machines import MachinesOnTheNetwork

CAN_PAUSE = [it for it in Firmware if Action.PAUSE in VENDORS[it].can]


def order(reached: Reached, action: Action, percent: int = 100) -> Order:
    return Order(reached=reached, action=action, until_s=1_800_000_600, percent=percent)


async def asked(
    machines: MachinesOnTheNetwork, reached: Reached, action: Action, percent: int = 100
) -> Answered:
    return await machines.network().ask(order(reached, action, percent))


def test_the_simulator_speaks_as_every_vendor_that_can_pause() -> None:
    assert {it.value for it in CAN_PAUSE} == set(SPEAKS)


@pytest.mark.parametrize("firmware", CAN_PAUSE)
async def test_a_machine_pauses_says_so_and_goes_on(firmware: Firmware, nursery: trio.Nursery) -> None:
    machines = MachinesOnTheNetwork(nursery)
    reached = machines.stand(1, firmware)
    machine = machines.at(reached)
    assert (await asked(machines, reached, Action.PAUSE)).answer is Answer.SAID_YES
    assert not machine.mines
    said = (await asked(machines, reached, Action.READ)).telemetry
    assert said is not None
    assert said.mines is False
    assert said.hashrate_hps == 0
    assert said.watts in (60, None)  # Antminers do not say
    assert (await asked(machines, reached, Action.RESUME)).answer is Answer.SAID_YES
    assert machine.mines
    said = (await asked(machines, reached, Action.READ)).telemetry
    assert said is not None
    assert said.mines is True
    assert said.hashrate_hps == 100 * 10**12
    assert said.watts in (3_000, None)


@pytest.mark.parametrize("firmware", CAN_PAUSE)
async def test_one_that_lies_says_yes_and_mines_on(firmware: Firmware, nursery: trio.Nursery) -> None:
    machines = MachinesOnTheNetwork(nursery)
    reached = machines.stand(1, firmware, Temper.LIES)
    assert (await asked(machines, reached, Action.PAUSE)).answer is Answer.SAID_YES
    assert machines.at(reached).mines
    said = (await asked(machines, reached, Action.READ)).telemetry
    assert said is not None
    assert said.mines is False  # and so nobody believes it


@pytest.mark.parametrize("firmware", CAN_PAUSE)
@pytest.mark.parametrize(
    ("temper", "answers"),
    [
        (Temper.REFUSES, {Answer.REFUSED}),
        (Temper.GARBAGE, {Answer.UNKNOWN, Answer.UNREACHED}),
        (Temper.ENDLESS, {Answer.UNKNOWN, Answer.UNREACHED}),
        (Temper.DEAF, {Answer.UNKNOWN, Answer.UNREACHED}),
        (Temper.LATE, {Answer.SAID_YES}),
    ],
)
async def test_whatever_a_machine_does_it_is_one_answer(
    firmware: Firmware,
    temper: Temper,
    answers: set[Answer],
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
) -> None:
    machines = MachinesOnTheNetwork(nursery)
    reached = machines.stand(1, firmware, temper)
    answered = await asked(machines, reached, Action.PAUSE)
    assert answered.answer in answers, answered
    # What is not known to have been done is said to be so.
    if machines.at(reached).heard:
        assert answered.answer in (Answer.SAID_YES, Answer.UNKNOWN, Answer.REFUSED)
    nursery.cancel_scope.cancel()


async def test_an_antminer_that_sleeps_already_is_not_written_to_again(nursery: trio.Nursery) -> None:
    machines = MachinesOnTheNetwork(nursery)
    reached = machines.stand(1, Firmware.ANTMINER)
    for _ in range(3):
        assert (await asked(machines, reached, Action.PAUSE)).answer is Answer.SAID_YES
    assert machines.at(reached).heard == ["pause"]


@pytest.mark.parametrize(
    "temper", [Temper.HONEST, Temper.LIES, Temper.REFUSES, Temper.GARBAGE, Temper.ENDLESS]
)
async def test_a_whatsminer_whose_port_is_4433_is_spoken_to_by_its_newer_api(
    nursery: trio.Nursery, temper: Temper, autojump_clock: trio.testing.MockClock
) -> None:
    machines = MachinesOnTheNetwork(nursery)
    reached = msgspec.structs.replace(machines.stand(1, Firmware.WHATSMINER, temper), port=V3_PORT)
    machine = machines.at(reached)
    machine.command = lambda request: {}  # type: ignore[method-assign]
    answered = [
        (await asked(machines, reached, action, 60)).answer
        for action in (Action.LIMIT, Action.PAUSE, Action.RESUME)
    ]
    assert {port for _, port in machines.connections} == {V3_PORT}
    assert machine.mines
    if temper in (Temper.GARBAGE, Temper.ENDLESS):
        assert set(answered) <= {Answer.UNKNOWN, Answer.UNREACHED}
        nursery.cancel_scope.cancel()
        return
    assert set(answered) == {Answer.REFUSED if temper is Temper.REFUSES else Answer.SAID_YES}
    assert machine.heard == ["limit 60", "pause", "resume", "limit 100"]
    said = (await asked(machines, reached, Action.READ)).telemetry
    assert said is not None
    assert (said.mines, said.watts, said.limit_watts, said.temperature_c) == (True, 3_000, 3_000, 82)
    assert (said.hashrate_hps, said.state) == (100 * 10**12, "normal")


async def test_a_learnt_address_has_the_older_api_whatever_port_stands_there(nursery: trio.Nursery) -> None:
    machines = MachinesOnTheNetwork(nursery)
    reached = machines.stand(1, Firmware.WHATSMINER)
    sealed = machines.keys.seal(
        Firmware.WHATSMINER, "container:acme.c01", Credential(*PASSWORDS["whatsminer"])
    )
    learnt = msgspec.structs.replace(reached, port=V3_PORT, by_hand=False, sealed=sealed)
    assert (await asked(machines, learnt, Action.PAUSE)).answer is Answer.SAID_YES
    assert {port for _, port in machines.connections} == {4028}


async def test_a_whatsminer_draws_less_and_comes_back_with_all_of_it(nursery: trio.Nursery) -> None:
    machines = MachinesOnTheNetwork(nursery)
    reached = machines.stand(1, Firmware.WHATSMINER)
    assert (await asked(machines, reached, Action.LIMIT, 60)).answer is Answer.SAID_YES
    assert machines.at(reached).watts == 1_800
    said = (await asked(machines, reached, Action.READ)).telemetry
    assert said is not None
    assert (said.watts, said.limit_watts, said.state) == (1_800, 3_000, "Normal")
    assert (await asked(machines, reached, Action.RESUME)).answer is Answer.SAID_YES
    assert machines.at(reached).watts == 3_000


@pytest.mark.parametrize("firmware", [it for it in CAN_PAUSE if it is not Firmware.WHATSMINER])
async def test_what_firmware_cannot_is_said_without_asking_it(
    firmware: Firmware, nursery: trio.Nursery
) -> None:
    machines = MachinesOnTheNetwork(nursery)
    answered = await asked(machines, machines.stand(1, firmware), Action.LIMIT, 60)
    assert answered.answer is Answer.UNSUPPORTED
    assert machines.connections == []


async def test_a_wrong_password_is_refused_and_not_said_back(nursery: trio.Nursery) -> None:
    machines = MachinesOnTheNetwork(nursery)
    for unit, firmware in enumerate((Firmware.ANTMINER, Firmware.WHATSMINER, Firmware.VNISH)):
        reached = machines.stand(unit, firmware)
        wrong = Reached(
            machine=reached.machine,
            address=reached.address,
            firmware=firmware,
            by_hand=True,
            firmware_by_hand=True,
            sealed=machines.sealed(firmware, "hunter2-of-the-operator"),
        )
        answered = await asked(machines, wrong, Action.PAUSE)
        assert answered.answer in (Answer.REFUSED, Answer.UNKNOWN)
        assert "hunter2" not in str(answered)
        assert machines.at(reached).mines


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "STATUS",
                    "Msg",
                    "SUMMARY",
                    "SESSION",
                    "SessionID",
                    "enc",
                    "salt",
                    "newsalt",
                    "time",
                    "token",
                    "stats",
                    "miner-mode",
                    "MHS",
                    "5s",
                    "miner",
                    "bitmain-work-mode",
                    "TUNERSTATUS",
                    "POWER",
                    "Watts",
                    "STATS",
                    "hashRate",
                    "power",
                    "temp",
                    "miningPaused",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(firmware=st.sampled_from(CAN_PAUSE), action=st.sampled_from(list(Action)[:4]), said=JSON)
def test_no_answer_breaks_who_asks(firmware: Firmware, action: Action, said: Any) -> None:
    """Of any JSON: the words of the answer never say that it makes no sense, which is a mistake of ours."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            machines = MachinesOnTheNetwork(nursery)
            reached = machines.stand(1, firmware)
            machine = machines.at(reached)
            machine.command = lambda request: said  # type: ignore[method-assign]
            machine.request = lambda *_: (200, [], _text(said))  # type: ignore[method-assign]
            answered = await asked(machines, reached, action, 60)
            assert "no sense" not in answered.words, said
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def _text(said: Any) -> bytes:
    import json

    return json.dumps(said).encode()


async def test_an_endless_answer_costs_its_bound_and_no_more(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    machines = MachinesOnTheNetwork(nursery)
    reached = machines.stand(1, Firmware.BRAIINS, Temper.ENDLESS)
    answered = await asked(machines, reached, Action.PAUSE)
    assert str(ANSWER_BYTES_MAX) in answered.words
    assert trio.current_time() < 1
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("agent", "firmware"),
    [
        ("bmminer/2.0.0/Antminer S19", Firmware.ANTMINER),
        ("whatsminer/v1.0", Firmware.WHATSMINER),
        ("cgminer/4.11.1", Firmware.OTHER),
        ("avalonminer/1.2", Firmware.AVALON),
        ("bosminer-plus-tuner 0.2.0-36c56a9363", Firmware.BRAIINS),
        ("LUXminer 2024.9.1", Firmware.LUXOS),
        ("xminer-1.2.6", Firmware.VNISH),
        ("bitaxe/BM1368/v2.6.0", Firmware.BITAXE),
        ("cpuminer/2.5.1", Firmware.OTHER),
        ("NiceHash/1.0.0", Firmware.OTHER),
        ("", Firmware.OTHER),
    ],
)
def test_firmware_is_known_by_what_it_says_when_it_mines(agent: str, firmware: Firmware) -> None:
    assert firmware_of(agent) is firmware


@pytest.mark.parametrize(
    ("password", "salt", "hashed"),
    [  # of `openssl passwd -1 -salt SALT PASSWORD`
        ("admin", "BQ5hoXV9", "RxmaDUO33TS7O26yeMHZ81"),
        ("a much longer password than sixteen", "abc", "EDAIEjf1pCmVPLCFnS35z0"),
        ("", "x", "fwjfZtMwarkdetsjiQreU1"),
    ],
)
def test_md5_crypt_is_that_of_openssl(password: str, salt: str, hashed: str) -> None:
    assert md5_crypt(password.encode(), salt) == hashed
