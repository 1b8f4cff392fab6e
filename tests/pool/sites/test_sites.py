"""Which edge a hub tells of which machines."""

from pool.fleet.registry import KnownMachine
from pool.sites.sites import machines_of


def machine(container: str, unit: str, number: int) -> KnownMachine:
    return KnownMachine(
        tenant="acme", container=container, unit=unit, number=number, container_id=1, difficulty_log2=16
    )


def test_each_edge_is_told_of_its_own_machines_and_is_asked_about_once_a_container() -> None:
    """It was once a machine: of 1.4 million in the records of 75 edges a hub did little else."""
    machines = [machine("c01", "u1", 1), machine("c02", "u1", 2), machine("c01", "u2", 3)]
    asked = list[tuple[str, str, str]]()

    def counts_for(edge: str, tenant: str, container: str) -> bool:
        asked.append((edge, tenant, container))
        return {"north": container == "c01", "south": True, "east": False}[edge]

    told = machines_of(machines, ("north", "south", "east"), counts_for)
    assert [it.number for it in told["north"]] == [1, 3]
    assert sorted(it.number for it in told["south"]) == [1, 2, 3]
    assert "east" not in told
    assert len(asked) == len(set(asked)) == 3 * 2
