"""The last gate before bytes go to a machine: where to, with which password, how many at once."""

from pathlib import Path

import msgspec
import pytest
import structlog.testing
import trio

from pool.power.control.contract import Action, Answer, Firmware
from pool.power.control.firmware import Credential
from pool.power.control.network import AT_ONCE, Order, Reached
from pool.power.control.passwords import EVERYWHERE, Keys
from pool.power.control.settings import address_of
from pool.settings_file import BadConfig
from pool.swarm.machine_api import PASSWORDS
from tests.stages.machines import MachinesOnTheNetwork, name_of, settings_of


def pause(reached: Reached) -> Order:
    return Order(reached=reached, action=Action.PAUSE, until_s=1_800_000_600)


@pytest.mark.parametrize(
    ("networks", "address"),
    [
        (["10.0.0.0/8"], "192.168.1.1"),
        (["0.0.0.0/0", "::/0"], "127.0.0.1"),
        (["0.0.0.0/0", "::/0"], "127.9.9.9"),
        (["0.0.0.0/0", "::/0"], "::1"),
        (["0.0.0.0/0", "::/0"], "::ffff:127.0.0.1"),
        (["0.0.0.0/0", "::/0"], "169.254.169.254"),
        (["0.0.0.0/0", "::/0"], "fe80::1"),
        (["0.0.0.0/0", "::/0"], "0.0.0.0"),  # noqa: S104
        (["0.0.0.0/0", "::/0"], "224.0.0.1"),
        (["0.0.0.0/0", "::/0"], "255.255.255.255"),
        (["10.0.0.0/8"], "::ffff:192.168.1.1"),
        (["10.0.0.0/8"], "10.0.0.1%eth0"),
        (["10.0.0.0/8"], "metadata.internal"),
        (["10.0.0.0/8"], "10.0.0.1:22"),
        (["10.0.0.0/8"], "0x0a000001"),
        (["10.0.0.0/8"], ""),
    ],
)
async def test_nothing_is_sent_out_of_the_networks_that_are_named(
    networks: list[str], address: str, nursery: trio.Nursery
) -> None:
    machines = MachinesOnTheNetwork(nursery)
    reached = msgspec.structs.replace(machines.stand(1, Firmware.BRAIINS), address=address)
    answered = await machines.network(settings_of(*networks)).ask(pause(reached))
    assert answered.answer is Answer.UNREACHED
    assert machines.connections == []


@pytest.mark.parametrize(
    ("network", "address"),
    [("127.0.0.0/8", "127.1.0.9"), ("10.0.0.0/8", "::ffff:10.1.2.3"), ("fd00::/8", "fd00::5")],
)
def test_an_address_in_a_network_that_is_named_is_reached(network: str, address: str) -> None:
    found = address_of(address)
    assert found is not None
    assert settings_of(network).allows(found)


def test_settings_that_would_tell_nobody_are_refused() -> None:
    from pool.power.control.settings import control_settings

    with pytest.raises(BadConfig, match=r"power\.networks"):
        control_settings(False, [], None, Path())
    with pytest.raises(BadConfig, match="is not a network"):
        control_settings(True, ["10.0.0.1/8"], None, Path())


async def test_a_dry_run_sends_nothing_whatever_is_asked(nursery: trio.Nursery) -> None:
    machines = MachinesOnTheNetwork(nursery)
    network = machines.network(settings_of(dry_run=True))
    for unit, action in enumerate(it for it in Action if it is not Action.HOLD):
        order = Order(reached=machines.stand(unit, Firmware.WHATSMINER), action=action, until_s=1, percent=60)
        assert (await network.ask(order)).answer is Answer.DRY_RUN
    assert machines.connections == []


async def test_what_was_paused_is_resumed_in_a_dry_run_and_out_of_the_networks_too(
    nursery: trio.Nursery,
) -> None:
    machines = MachinesOnTheNetwork(nursery)
    reached = machines.stand(1, Firmware.BRAIINS)
    await machines.network().ask(pause(reached))
    other = machines.network(settings_of("192.168.0.0/16", dry_run=True))
    order = Order(reached=reached, action=Action.RESUME)
    assert (await other.ask(order)).answer is Answer.UNREACHED
    assert (await other.ask(order, was_paused=True)).answer is Answer.SAID_YES
    assert machines.at(reached).mines


# Passwords


async def test_a_password_in_clear_goes_only_where_the_operator_said(nursery: trio.Nursery) -> None:
    machines = MachinesOnTheNetwork(nursery)
    reached = machines.stand(1, Firmware.VNISH)
    answered = await machines.network().ask(pause(msgspec.structs.replace(reached, by_hand=False)))
    assert answered.answer is Answer.UNREACHED
    assert machines.connections == []
    assert (await machines.network().ask(pause(reached))).answer is Answer.SAID_YES


async def test_a_password_in_clear_does_not_go_to_what_only_says_that_it_takes_it(
    nursery: trio.Nursery,
) -> None:
    """The strategy: an Antminer's place by hand, and an agent that says VNish, for the password of those."""
    machines = MachinesOnTheNetwork(nursery)
    reached = msgspec.structs.replace(machines.stand(1, Firmware.VNISH), firmware_by_hand=False)
    answered = await machines.network().ask(pause(reached))
    assert answered.answer is Answer.UNREACHED
    assert machines.connections == []


@pytest.mark.parametrize(
    ("scope", "by_hand", "told"),
    [
        ("", False, False),
        ("site:north", False, False),
        ("container:acme.c02", False, False),
        ("container:acme.c01", False, True),
        ("container:acme.c02", True, False),
        ("container:acme.c01", True, True),
        ("site:north", True, True),
        ("", True, True),
    ],
)
async def test_a_proof_is_of_the_containers_own_password_where_the_operator_did_not_say_where_it_is(
    scope: str, by_hand: bool, told: bool, nursery: trio.Nursery
) -> None:
    """The strategy: let the pool prove the password of all at one's own address, with the question that
    another Antminer asked, and have that one told anything. Another container's opens to no such proof."""
    machines = MachinesOnTheNetwork(nursery)
    sealed = machines.keys.seal(Firmware.ANTMINER, scope, Credential("root", "root"))
    stands = machines.stand(1, Firmware.ANTMINER)
    reached = msgspec.structs.replace(stands, by_hand=by_hand, sealed=sealed)
    answered = await machines.network().ask(pause(reached))
    assert (answered.answer is Answer.SAID_YES) == told
    assert bool(machines.connections) == told


async def test_no_firmware_gets_the_password_of_another(nursery: trio.Nursery) -> None:
    """Who answers as a VNish is not sent what an Antminer only gets a proof of."""
    machines = MachinesOnTheNetwork(nursery)
    reached = machines.stand(1, Firmware.VNISH)
    stolen = msgspec.structs.replace(reached, sealed=machines.sealed(Firmware.ANTMINER))
    assert (await machines.network().ask(pause(stolen))).answer is Answer.UNREACHED
    sealed = machines.sealed(Firmware.ANTMINER)
    assert sealed is not None
    renamed = msgspec.structs.replace(sealed, firmware=Firmware.VNISH)  # as who writes in the books could
    answered = await machines.network().ask(pause(msgspec.structs.replace(reached, sealed=renamed)))
    assert answered.answer is Answer.UNREACHED
    assert machines.connections == []


async def test_who_asks_for_a_password_in_place_of_a_proof_gets_neither(nursery: trio.Nursery) -> None:
    machines = MachinesOnTheNetwork(nursery)
    reached = machines.stand(1, Firmware.ANTMINER)
    heard: list[str] = []

    def basic(method: str, path: str, headers: object, body: bytes) -> object:
        heard.append(str(headers))
        return 401, [("WWW-Authenticate", 'Basic realm="antMiner Configuration"')], b""

    machines.at(reached).request = basic  # type: ignore[method-assign,assignment]
    answered = await machines.network().ask(pause(reached))
    assert answered.answer is Answer.REFUSED
    assert len(heard) == 1
    assert "authorization" not in heard[0].lower()


async def test_a_password_that_a_machine_says_back_is_in_no_answer_and_no_log(
    nursery: trio.Nursery,
) -> None:
    machines = MachinesOnTheNetwork(nursery)
    reached = machines.stand(1, Firmware.VNISH)
    secret = "hunter2-of-the-operator"
    told = msgspec.structs.replace(reached, sealed=machines.sealed(Firmware.VNISH, secret))

    def echo(method: str, path: str, headers: object, body: bytes) -> object:
        return 200, [], body.replace(b"pw", b"token")

    machines.at(reached).request = echo  # type: ignore[method-assign,assignment]
    machines.at(reached).command = lambda request: {}  # type: ignore[method-assign]
    with structlog.testing.capture_logs() as logs:
        answered = await machines.network().ask(pause(told))
    assert secret not in str(answered)
    assert secret not in str(logs)


async def test_there_are_no_passwords_without_the_key(nursery: trio.Nursery) -> None:
    machines = MachinesOnTheNetwork(nursery)
    reached = machines.stand(1, Firmware.ANTMINER)
    machines.keys = Keys(bytes(32))
    answered = await machines.network().ask(pause(reached))
    assert answered.answer is Answer.UNREACHED
    assert "does not open" in answered.words
    assert machines.connections == []


def test_what_is_sealed_says_nothing() -> None:
    machines_key = Keys(bytes(range(32)))
    user, password = PASSWORDS["antminer"]
    sealed = machines_key.seal(Firmware.ANTMINER, EVERYWHERE, Credential(user, password * 4))
    again = machines_key.seal(Firmware.ANTMINER, EVERYWHERE, Credential(user, password * 4))
    assert sealed.text != again.text
    for it in (repr(sealed), repr(machines_key), repr(machines_key.open(sealed))):
        assert password * 4 not in it


# Many


async def test_a_container_at_a_time_is_spoken_to(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    machines = MachinesOnTheNetwork(nursery)
    network = machines.network()
    all_of_them = [machines.stand(unit, Firmware.BRAIINS) for unit in range(3 * AT_ONCE)]
    answers: list[Answer] = []

    async def ask(reached: Reached) -> None:
        answers.append((await network.ask(pause(reached))).answer)

    async with trio.open_nursery() as asking:
        for it in all_of_them:
            asking.start_soon(ask, it)
    assert answers == [Answer.SAID_YES] * 3 * AT_ONCE
    assert 1 < machines.open_most <= AT_ONCE


async def test_a_host_that_does_not_listen_was_not_reached(nursery: trio.Nursery) -> None:
    machines = MachinesOnTheNetwork(nursery)
    nobody = Reached(machine=name_of(1), address="10.9.9.9", firmware=Firmware.BRAIINS, by_hand=True)
    answered = await machines.network().ask(pause(nobody))
    assert answered.answer is Answer.UNREACHED
    assert machines.connections == [("10.9.9.9", 4028)]
