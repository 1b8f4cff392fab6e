"""What is read of the registry's rows: all of the fleet, or some containers of it."""

from payouts.rates import Scheme
from pool.books.store import Store
from pool.fleet.registry import ContainerRecord, NewRows, WorkerRecord
from pool.fleet.rows import TenantTerms, add_tenant, insert_new, load, load_workers


def test_machines_of_some_containers_are_read_and_no_others(store: Store) -> None:
    """An edge is told of its own: 75 of them that ask at once read one fleet so, and not 75."""
    places = tuple(ContainerRecord(id=it, tenant_id=1, name=f"c{it}") for it in (1, 2, 3))
    machines = tuple(
        WorkerRecord(id=10 * place.id + it, tenant_id=1, container_id=place.id, unit=f"u{it}", agent=None)
        for place in places
        for it in (1, 2)
    )
    with store.write() as connection:
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
        add_tenant(connection, "acme", terms, by="test", now_s=0)
        insert_new(connection, NewRows(places, machines), 0)
    with store.read() as connection:
        assert {it.id for it in load(connection).workers} == {11, 12, 21, 22, 31, 32}
        assert {it.id for it in load_workers(connection, {1, 3})} == {11, 12, 31, 32}
        assert load_workers(connection, {2}) == machines[2:4]
        assert load_workers(connection, ()) == ()
