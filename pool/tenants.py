"""Whose machines may mine: worker names to tenants and worker numbers.

A worker name is tenant.container.unit; container and unit are free, the tenant must be known. Answers at
once and from memory: it is asked in the middle of a handshake.
"""

from typing import Final
from urllib.parse import unquote

import msgspec

from stratum.session import Admission, Refusal

# Workers of one tenant: four sites built out. A machine that invents names must not fill the memory.
WORKERS_PER_TENANT_MAX: Final = 100_000


class Worker(msgspec.Struct, frozen=True):
    """One machine as the pool knows it. `number` is what shares are tallied by, from 1."""

    number: int
    tenant: str
    container: str
    unit: str

    @property
    def name(self) -> str:
        return ".".join(part for part in (self.tenant, self.container, self.unit) if part)


class Registry:
    """Known tenants, and every worker that they have shown."""

    def __init__(self, tenants: tuple[str, ...]) -> None:
        self.tenants = tenants
        self.workers: list[Worker] = []  # by number - 1
        self._numbers: dict[str, int] = {}
        self._count = dict.fromkeys(tenants, 0)

    def admit(self, name: str, agent: str) -> Admission | Refusal:
        """stratum.session.Gate."""
        tenant, container, unit = parse_worker_name(name)
        if tenant not in self._count:
            known = tenant[:32] or "an empty name"
            return Refusal(f"Unknown tenant {known}: worker names are tenant.container.unit")
        canonical = ".".join((tenant, container, unit))
        number = self._numbers.get(canonical)
        if number is None:
            if self._count[tenant] >= WORKERS_PER_TENANT_MAX:
                return Refusal(f"Tenant {tenant} has too many workers")
            number = len(self.workers) + 1
            self._numbers[canonical] = number
            self._count[tenant] += 1
            self.workers.append(Worker(number, tenant, container, unit))
        return Admission(number)


def parse_worker_name(name: str) -> tuple[str, str, str]:
    """(tenant, container, unit); what is not there is empty. %-escapes are what some miners make of a dot."""
    if "%" in name:
        plain = unquote(name, errors="replace")
        name = plain if plain.isprintable() else name  # a line feed has no business in a log
    tenant, _, rest = name.strip().partition(".")
    container, dot, unit = rest.partition(".")
    return (tenant.lower(), container, unit) if dot else (tenant.lower(), "", container)
