"""The registry: who is let in, what is made on sight, and what a change leaves behind."""

import pytest
from sqlalchemy import select

from payouts.batches.plan import plan
from payouts.ledger import Kind, PoolAccount, Transaction, Transfer, payable, post
from payouts.rates import Scheme
from payouts.schemas.money import tenant_addresses, tenant_terms
from pool.books.store import Store
from pool.fleet import registry
from pool.fleet.registry import NewRows, Registry, parse_worker_name
from pool.fleet.rows import (
    ADDRESS_HOLD_S,
    RegistryError,
    TenantTerms,
    add_tenant,
    insert_new,
    load,
    record_of,
    set_address,
    set_container,
    set_status,
    set_terms,
)
from stratum.miners.contracts import Admitted, Refusal
from tests.fakes.owners import ConnectionFrom
from tests.stages.payouts import script_of

NOW_S = 1_700_000_000
TERMS = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=1_000_000)
P2WPKH = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"
P2WPKH_MAINNET = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"


MINER = ConnectionFrom()


def prove(known: Registry, name: str) -> bool:
    """A machine of that name has an accepted share."""
    admission = known.admit(name, "", ConnectionFrom())
    assert isinstance(admission, Admitted)
    known.prove(admission.worker)
    return admission.worker in known.workers


@pytest.fixture
def known(store: Store) -> Registry:
    with store.write() as connection:
        add_tenant(connection, "acme", TERMS, by="ann", now_s=NOW_S)
    with store.read() as connection:
        return Registry(load(connection))


@pytest.mark.sqlite_suffices
def test_who_named_a_machine_before_it_was_removed_calls_it_by_its_name_after(known: Registry) -> None:
    """Between a look at machines and its words there is a thread: a KeyError was the end of all that it
    had to tell."""
    assert prove(known, "acme.c07.r12s04")
    (number,) = known.workers
    known.remove_workers([number])
    assert known.name_of(number) == "acme.c07.r12s04"
    known.newcomers.forget(known.newcomers.gone)  # a commit has all that it had sent
    assert not known.knows(number)
    assert known.name_of(number) == "acme.c07.r12s04"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("acme.c07.r12s04", ("acme", "c07", "r12s04")),
        ("acme%2Ec07%2Er12s04", ("acme", "c07", "r12s04")),
        ("ACME.c07.r12s04", ("acme", "c07", "r12s04")),
        ("acme.worker1", ("acme", "", "worker1")),
        ("acme", ("acme", "", "")),
        ("acme.c07.r12.s04", ("acme", "c07", "r12.s04")),
        (" acme.c07.u1 ", ("acme", "c07", "u1")),
        ("acme.%ff%zz.u", ("acme", "\ufffd%zz", "u")),
    ],
)
def test_worker_names_are_tenant_container_unit(name: str, parts: tuple[str, str, str]) -> None:
    assert parse_worker_name(name) == parts


@pytest.mark.sqlite_suffices
def test_a_name_becomes_a_worker_once_with_its_first_accepted_share(known: Registry, store: Store) -> None:
    first = known.admit("acme.c01.u1", "cgminer", MINER)
    assert isinstance(first, Admitted)
    assert known.admit("acme.c01.u1", "other", ConnectionFrom("10.0.0.2")) == first
    assert known.admit("acme.c01.u2", "", MINER) != first
    assert known.collect_new() == NewRows()
    for _ in range(2):
        known.prove(first.worker)
    new = known.collect_new()
    assert [it.name for it in new.containers] == ["c01"]
    assert [(it.id, it.unit, it.agent) for it in new.workers] == [(first.worker, "u1", "cgminer")]
    assert known.admit("acme.c01.u1", "", MINER) == first
    assert known.collect_new() == NewRows()
    with store.write() as connection:
        insert_new(connection, new, NOW_S)
    with store.read() as connection:
        again = Registry(load(connection))
    assert again.admit("acme.c01.u1", "", MINER) == first
    assert again.collect_new() == NewRows()


@pytest.mark.sqlite_suffices
def test_who_finds_something_is_a_worker_by_that(known: Registry) -> None:
    admitted = known.admit("acme.c01.u1", "cgminer", MINER)
    assert isinstance(admitted, Admitted)
    assert known.finder(admitted.worker) == "acme.c01.u1"
    assert [it.unit for it in known.collect_new().workers] == ["u1"]
    assert known.finder(0) is None, "a block is one whoever sent it, before it said a name too"


@pytest.mark.sqlite_suffices
def test_an_unknown_tenant_is_refused_in_words(known: Registry) -> None:
    answer = known.admit("nobody.c01.u1", "", MINER)
    assert isinstance(answer, Refusal)
    assert "Unknown tenant nobody" in answer.reason


@pytest.mark.sqlite_suffices
def test_a_suspended_tenant_is_refused_in_words_and_resumed(known: Registry, store: Store) -> None:
    with store.write() as connection:
        known.put_tenant(record_of(set_status(connection, "acme", active=False)))
    answer = known.admit("acme.c01.u1", "", MINER)
    assert isinstance(answer, Refusal)
    assert "suspended" in answer.reason
    with store.write() as connection:
        known.put_tenant(record_of(set_status(connection, "acme", active=True)))
    assert isinstance(known.admit("acme.c01.u1", "", MINER), Admitted)


@pytest.mark.sqlite_suffices
def test_only_names_with_accepted_shares_are_in_a_tenants_quota(
    known: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "WORKERS_PER_TENANT_MAX", 3)
    monkeypatch.setattr(registry, "CONTAINERS_PER_TENANT_MAX", 2)
    for number in range(9):  # nothing stands behind these
        assert isinstance(known.admit(f"acme.x{number}.u", "", MINER), Admitted)
    for number in range(2):
        assert prove(known, f"acme.c0{number}.u0")
    refused = known.admit("acme.c02.u0", "", MINER)
    assert isinstance(refused, Refusal)
    assert "container remove" in refused.reason
    assert prove(known, "acme.c01.u1")
    refused = known.admit("acme.c01.u2", "", MINER)
    assert isinstance(refused, Refusal)
    assert "worker remove" in refused.reason
    assert isinstance(known.admit("acme.c01.u1", "", MINER), Admitted)


@pytest.mark.sqlite_suffices
def test_a_name_is_as_long_as_firmware_lets_it_be(known: Registry) -> None:
    assert isinstance(known.admit("acme.c01." + "u" * 64, "", MINER), Refusal)
    assert isinstance(known.admit("acme." + "c" * 64 + ".u1", "", MINER), Refusal)


def test_an_address_change_is_held_back_for_72_hours_the_first_one_is_not(store: Store) -> None:
    other = "bcrt1pg5zg7n0zy2ysvz8p8n0zg3h0fvmhzc2sjlld8w4dhq3mkpy6p2pqr4c3jn"
    with store.write() as connection:
        add_tenant(connection, "acme", TERMS, by="ann", now_s=NOW_S)
        first = set_address(connection, "acme", P2WPKH, network="regtest", by="ann", now_s=NOW_S)
        assert first.address_effective_at_s == NOW_S
        again = set_address(connection, "acme", P2WPKH, network="regtest", by="bob", now_s=NOW_S + 60)
        assert again.address_effective_at_s == NOW_S
        with pytest.raises(RegistryError):
            set_address(connection, "acme", other, network="regtest", by="bob", now_s=NOW_S)
        with pytest.raises(RegistryError, match="main"):
            set_address(connection, "acme", P2WPKH_MAINNET, network="regtest", by="bob", now_s=NOW_S)
        p2pkh = "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn"
        changed = set_address(connection, "acme", p2pkh, network="regtest", by="bob", now_s=NOW_S + 60)
        assert changed.address_effective_at_s == NOW_S + 60 + ADDRESS_HOLD_S
        history = connection.execute(select(tenant_addresses.c.changed_by).order_by(tenant_addresses.c.id))
        assert history.scalars().all() == ["ann", "bob"]


@pytest.mark.sqlite_suffices
def test_so_is_the_first_one_of_who_is_owed_something_by_then(store: Store) -> None:
    """The thief may set addresses, and does so for a tenant that never gave one: all that it was owed was
    his by the next batch; now 0 sat, for those who are told have three days."""
    with store.write() as connection:
        tenant = add_tenant(connection, "acme", TERMS, by="ann", now_s=NOW_S)
        owed = Transfer(PoolAccount.PPS_EXPENSE.value, payable(tenant.id), 1_700_001)
        work = Transaction(key="work", kind=Kind.SETTLEMENT, memo="work", transfers=(owed,))
        post(connection, work, NOW_S)
        first = set_address(connection, "acme", P2WPKH, network="regtest", by="eve", now_s=NOW_S)
        assert first.address_effective_at_s == NOW_S + ADDRESS_HOLD_S
        assert plan(connection, NOW_S, script_of, 0).items == ()
        (paid,) = plan(connection, NOW_S + ADDRESS_HOLD_S, script_of, 0).items
        assert paid.amount_sat == 1_700_001


@pytest.mark.sqlite_suffices
def test_terms_have_a_history_and_only_changes_are_in_it(store: Store) -> None:
    cheaper = TenantTerms(scheme=Scheme.FPPS, fee_bps=100, payout_minimum_sat=0)
    with store.write() as connection:
        add_tenant(connection, "acme", TERMS, by="ann", now_s=NOW_S)
        set_terms(connection, "acme", TERMS, by="bob", now_s=NOW_S)
        view = set_terms(connection, "acme", cheaper, by="bob", now_s=NOW_S)
        assert (view.scheme, view.fee_bps) == ("fpps", 100)
        assert len(connection.execute(select(tenant_terms)).all()) == 2


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("name", ["", "Acme", "a.b", "a b", "ä", "x" * 33, "-", "a/b"])
def test_a_tenant_name_must_survive_every_miner(store: Store, name: str) -> None:
    with store.write() as connection, pytest.raises(RegistryError, match="tenant name"):
        add_tenant(connection, name, TERMS, by="ann", now_s=NOW_S)


@pytest.mark.sqlite_suffices
def test_a_tenant_is_added_once(store: Store) -> None:
    with store.write() as connection:
        add_tenant(connection, "acme", TERMS, by="ann", now_s=NOW_S)
        with pytest.raises(RegistryError, match="already"):
            add_tenant(connection, "acme", TERMS, by="ann", now_s=NOW_S)


@pytest.mark.sqlite_suffices
def test_a_container_that_is_set_while_its_first_machine_is_not_in_the_books_yet_is_that_one(
    known: Registry, store: Store
) -> None:
    """Two numbers for one name: the books took nothing more of the journal until the pool began anew."""
    prove(known, "acme.c01.u1")
    number = known.reserve_container("acme", "c01")
    with store.write() as connection:
        assert set_container(connection, "acme", "c01", units=400, next_id=number, now_s=NOW_S).id == number
        insert_new(connection, known.collect_new(), NOW_S)
    assert known.reserve_container("acme", "c02") != number


def test_a_container_keeps_what_is_not_named(store: Store) -> None:
    with store.write() as connection:
        add_tenant(connection, "acme", TERMS, by="ann", now_s=NOW_S)
        made = set_container(
            connection, "acme", "c01", site="Bratsk", units=400, ths=44_000, next_id=7, now_s=NOW_S
        )
        again = set_container(connection, "acme", "c01", kw=1_300, next_id=8, now_s=NOW_S)
        assert made == again
        assert made.id == 7
        with pytest.raises(RegistryError, match="kW"):
            set_container(connection, "acme", "c01", kw=-1, next_id=8, now_s=NOW_S)
        with pytest.raises(RegistryError, match="no tenant"):
            set_container(connection, "nobody", "c01", next_id=8, now_s=NOW_S)
