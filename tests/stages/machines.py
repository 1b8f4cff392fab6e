"""Simulated machines on a network that is memory: each at its address, as its vendor's firmware speaks.

Whoever connects to an address without a machine is refused, as by a host that does not listen.
"""

import errno
import random

import trio
from trio.testing import memory_stream_pair

from pool.power.control.contract import Firmware, MachineName
from pool.power.control.firmware import Credential
from pool.power.control.network import MachineNetwork, Reached
from pool.power.control.passwords import EVERYWHERE, Keys, Sealed
from pool.power.control.settings import ControlSettings, control_settings
from pool.swarm.api_streams import answer_stream
from pool.swarm.machine_api import PASSWORDS, ApiOptions, MachineApi, Temper

NETWORK = "10.0.0.0/8"
KEY = bytes(range(32))


def name_of(unit: int, container: str = "c01") -> MachineName:
    return MachineName("acme", container, f"u{unit}")


class MachinesOnTheNetwork:
    """`connections` are to which address and port, in their order."""

    def __init__(self, nursery: trio.Nursery, seed: int = 1) -> None:
        self._nursery, self._seed = nursery, seed
        self.machines: dict[str, MachineApi] = {}
        self.connections: list[tuple[str, int]] = []
        self.open = self.open_most = 0
        self.keys = Keys(KEY)

    def stand(self, unit: int, firmware: Firmware, temper: Temper = Temper.HONEST) -> Reached:
        """Another machine, and how it is spoken to."""
        address = f"10.0.{unit // 250}.{unit % 250 + 1}"
        noise = random.Random(self._seed + unit)
        self.machines[address] = MachineApi(ApiOptions(firmware=firmware.value, temper=temper), noise)
        return Reached(
            machine=name_of(unit),
            address=address,
            firmware=firmware,
            by_hand=True,
            firmware_by_hand=True,
            sealed=self.sealed(firmware),
        )

    def sealed(self, firmware: Firmware, password: str | None = None) -> Sealed | None:
        """What opens its machines, or another password."""
        if firmware.value not in PASSWORDS:
            return None
        user, right = PASSWORDS[firmware.value]
        return self.keys.seal(firmware, EVERYWHERE, Credential(user, password or right))

    def at(self, reached: Reached) -> MachineApi:
        return self.machines[reached.address]

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        self.connections.append((host, port))
        await trio.lowlevel.checkpoint()
        if host not in self.machines:
            raise OSError(errno.ECONNREFUSED, "Connection refused")
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(self._serve, self.machines[host], theirs)
        return ours

    async def _serve(self, machine: MachineApi, stream: trio.abc.Stream) -> None:
        self.open += 1
        self.open_most = max(self.open_most, self.open)
        try:
            await answer_stream(machine, stream, random.Random(self._seed))
        finally:
            self.open -= 1

    def network(self, settings: ControlSettings | None = None) -> MachineNetwork:
        """Who asks them, in earnest where nothing else is said."""
        chosen = settings or settings_of()
        return MachineNetwork(chosen, self.keys, wall_clock=lambda: 1_800_000_000.0, connect=self.connect)


def settings_of(*networks: str, dry_run: bool = False) -> ControlSettings:
    from pathlib import Path

    return control_settings(dry_run, list(networks or (NETWORK,)), None, Path())
