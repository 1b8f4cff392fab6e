"""Divisions in the books: whose a block is, when it is divided, and what an audit finds of it."""

import json
from collections.abc import Iterator
from datetime import date, timedelta
from fractions import Fraction
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DatabaseError

from payouts.accrual import settle
from payouts.audit.verify import audit
from payouts.divisions import DivisionPart, Header, divide, division_carry, next_division, record_fund
from payouts.income import Block, Status, mark, record_block
from payouts.ledger import Kind, PoolAccount, balances_sat, payable
from payouts.proof import angara_verify
from payouts.ratebook import record_rate
from payouts.rates import PSAT_PER_SAT, Price, Scheme
from payouts.reports.luck import Hint, luck_of_tenant
from payouts.reports.pool import pool_report
from payouts.reversals import REFUSED
from payouts.schemas.divisions import block_funds, division_parts, division_works, divisions
from payouts.schemas.money import workers
from payouts.statements.period import Period, utc
from payouts.statements.statement import Statement, statement
from payouts.tallies import Tally, record
from pool.books.store import Store
from pool.fleet.rows import TenantTerms, add_tenant, set_terms
from pool.reports.pool_documents import pool_document
from pool.reports.render_csv import render_csv
from pool.reports.render_json import render_json
from pool.reports.render_text import render_text
from pool.reports.statement_document import statement_document
from tests.histories.proof import altered

HOUR = 476_000
NOW_S = HOUR * 3600
DAY = date(1970, 1, 1) + timedelta(hours=HOUR)
DAYS = Period(DAY - timedelta(1), DAY + timedelta(2))
NBITS, EASIER = 0x17034219, 0x170368A6  # the target of the second is 20/19 of the first's, nearly
INCOME_SAT = 320_000_007
ACME, BOREALIS, CITADEL = 1, 2, 3
TERMS = TenantTerms(scheme=Scheme.PPLNS2, fee_bps=200, payout_minimum_sat=0)
DIVIDED, FEES = PoolAccount.BLOCKS_DIVIDED.value, PoolAccount.FEE_INCOME.value
# Of shares of difficulty 2^40, an expected block is so many, and they are so many expected blocks.
A_SHARE = Price(
    nbits=NBITS, subsidy_sat=312_500_000, block_fees_sat=0, fee_bps=0, scheme=Scheme.PPLNS2
).expected_blocks(Fraction(1 << 40), 1)


class Group:
    """Two tenants of one scheme with different fees, and a third that is paid by PPS."""

    def __init__(self, store: Store, scheme: Scheme = Scheme.PPLNS2) -> None:
        self.store, self.batches, self.found = store, 0, 0
        with store.write() as connection:
            for number, (name, of, fee_bps) in enumerate(
                (("acme", scheme, 200), ("borealis", scheme, 0), ("citadel", Scheme.PPS, 100)), 1
            ):
                terms = TenantTerms(scheme=of, fee_bps=fee_bps, payout_minimum_sat=0)
                add_tenant(connection, name, terms, by="ann", now_s=NOW_S - 10**6)
                values = {"tenant_id": number, "unit": "u", "first_seen_at_s": 0, "last_seen_at_s": 0}
                connection.execute(
                    text(
                        "INSERT INTO containers (id, tenant_id, name, created_at_s) VALUES (:id, :id, '', 0)"
                    ),
                    {"id": number},
                )
                connection.execute(insert(workers).values(id=number, container_id=number, **values))

    def change(self, tenant: str, scheme: Scheme, hour: int) -> None:
        terms = TenantTerms(scheme=scheme, fee_bps=200, payout_minimum_sat=0)
        with self.store.write() as connection:
            set_terms(connection, tenant, terms, by="ann", now_s=hour * 3600)

    def mine(self, tenant: int, hour: int, shares: int, nbits: int = NBITS, log2: int = 40) -> None:
        """By the terms that it has now."""
        self.batches += 1
        with self.store.write() as connection:
            scheme, fee_bps = connection.execute(
                text(
                    "SELECT scheme, fee_bps FROM tenant_terms WHERE tenant_id = :it ORDER BY id DESC LIMIT 1"
                ),
                {"it": tenant},
            ).one()
            of = Price(
                nbits=nbits, subsidy_sat=312_500_000, block_fees_sat=0, fee_bps=fee_bps, scheme=Scheme(scheme)
            )
            rate = record_rate(connection, tenant, of, 840_000, None, NOW_S - 10**6)
            tally = Tally(
                worker_id=tenant,
                rate_id=rate,
                minute=hour * 60,
                difficulty_log2=log2,
                verdict=0,
                shares=shares,
            )
            assert record(connection, "pool", self.batches, [tally])

    def find(
        self,
        tenant: int | None,
        hour: int,
        nbits: int = NBITS,
        until: Status = Status.MATURED,
        dated_s: int | None = None,
        said: Scheme | None = None,
    ) -> str:
        """A block, and what becomes of it; its hash. `said`: how the shares of its job are paid."""
        self.found += 1
        found = f"{self.found:064x}"
        at_s = hour * 3600 + 900
        with self.store.write() as connection:
            block = Block(
                hash=found, height=840_000, income_sat=INCOME_SAT, worker_id=tenant, found_at_s=at_s
            )
            record_block(connection, block, at_s)
            if tenant is not None:
                record_fund(connection, found, tenant, Header(nbits, dated_s or at_s), said)
            steps = [Status.PENDING, Status.MATURED] if until is Status.MATURED else [until]
            for status in steps:
                mark(connection, found, status, at_s)
        return found

    def divide(self, booked_until_s: int = NOW_S + 10**7) -> list[tuple[DivisionPart, ...]]:
        done: list[tuple[DivisionPart, ...]] = []
        while True:
            with self.store.read() as connection:
                due = next_division(connection, booked_until_s)
            if due is None:
                return done
            with self.store.write() as connection:
                done.append(divide(connection, due, NOW_S + 10**6))
                assert divide(connection, due, NOW_S + 10**6) == (), "once"

    def balances(self) -> dict[str, int]:
        with self.store.read() as connection:
            assert (wrong := audit(connection).wrong) is None, wrong
            return {account: sat for account, sat in balances_sat(connection).items() if sat}

    def rows(self) -> list[tuple[Any, ...]]:
        with self.store.read() as connection:
            return [
                tuple(row)
                for table in (block_funds, divisions, division_works, division_parts)
                for row in connection.execute(select(table).order_by(*table.primary_key))
            ]


@pytest.fixture
def group(store: Store) -> Iterator[Group]:
    made = Group(store)
    yield made
    made.balances()  # every test leaves books that an audit agrees with


@pytest.mark.sqlite_suffices
def test_a_machine_that_dates_its_blocks_back_to_other_terms_gets_no_part_of_them(group: Group) -> None:
    """Its tenant was paid by luck, is paid by PPS from now on, and its window is full: a header may be dated
    back by an hour, for which each block would be paid to him a second time."""
    group.mine(ACME, HOUR - 9, shares_of(Fraction(4)))
    with group.store.write() as connection:
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
        set_terms(connection, "acme", terms, by="ann", now_s=HOUR * 3600)
    assert group.find(ACME, HOUR, dated_s=HOUR * 3600 - 1)
    assert group.divide() == []
    assert group.find(BOREALIS, HOUR, dated_s=HOUR * 3600 - 1)
    ((part,),) = group.divide()
    assert part.credit.sat > INCOME_SAT * 97 // 100, "what was worked for before is paid"


A_DAY = Fraction(144, 1000)  # expected blocks of a tenth of a percent of Bitcoin


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("said", [None, Scheme.PPS])
def test_a_site_that_goes_on_by_terms_of_before_is_paid_by_them_alone(
    group: Group, said: Scheme | None
) -> None:
    """It is cut off when its tenant changes from PPS to a dividing scheme, and finds a block for each that it
    is expected to: by the terms of when they were found they were all divided, beside what its shares are
    paid. Of a tenth of a percent of Bitcoin that is 0.45 BTC a day."""
    group.mine(BOREALIS, HOUR - 9, shares_of(Fraction(3)))
    group.mine(CITADEL, HOUR, shares_of(A_DAY * 2**20), log2=20)
    group.change("citadel", Scheme.PPLNS2, HOUR)
    with group.store.write() as connection:
        (paid,) = (it.posted_sat for it in settle(connection, NOW_S + 10**5) if it.tenant_id == CITADEL)
    assert paid == pytest.approx(312_500_000 * 0.144 * 0.99, abs=10), "by PPS, each share"
    group.find(CITADEL, HOUR + 5, said=said)
    twice_sat = sum(it.posted_sat for parts in group.divide() for it in parts) * A_DAY
    assert twice_sat == pytest.approx(46_080_000 if said is None else 0, abs=2), "a day, for no work"


@pytest.mark.sqlite_suffices
def test_nor_is_its_work_paid_by_nobody(group: Group) -> None:
    """The opposite: its tenant is paid by PPS by now, and the site goes on by luck: the block is divided."""
    group.mine(BOREALIS, HOUR - 9, shares_of(Fraction(3)))
    group.mine(ACME, HOUR, shares_of(A_DAY * 2**20), log2=20)
    group.change("acme", Scheme.PPS, HOUR)
    with group.store.write() as connection:
        assert not any(it.posted_sat for it in settle(connection, NOW_S + 10**5)), "its shares accrue nothing"
    group.find(ACME, HOUR + 5)
    assert group.divide() == [], "by the terms of when it was found"
    group.find(ACME, HOUR + 5, said=Scheme.PPLNS2)
    ((part,),) = group.divide()
    assert (part.tenant_id, part.posted_sat) == (BOREALIS, INCOME_SAT)


@pytest.mark.sqlite_suffices
def test_of_a_tenant_that_changes_to_and_fro_a_block_is_as_its_job_was_for_a_week(group: Group) -> None:
    """What was not its terms in that time is not believed, whoever says so: then they count."""
    group.mine(ACME, HOUR - 99, 10)
    day = 24
    for scheme, hour in ((Scheme.PPS, HOUR), (Scheme.TIDES, HOUR + day), (Scheme.FPPS, HOUR + 2 * day)):
        group.change("acme", scheme, hour)

    def fund(said: Scheme, hour: int) -> str | None:
        block = group.find(ACME, hour, said=said, until=Status.PENDING)
        with group.store.read() as connection:
            return connection.scalar(select(block_funds.c.scheme).where(block_funds.c.block_hash == block))

    assert [fund(it, HOUR + 3 * day) for it in (Scheme.PPLNS2, Scheme.PPS, Scheme.TIDES, Scheme.PPLNS8)] == [
        "pplns2",
        None,
        "tides",
        None,
    ]
    assert [fund(it, HOUR + 8 * day + 1) for it in (Scheme.PPLNS2, Scheme.TIDES)] == [None, "tides"]
    group.change("acme", Scheme.PPLNS4, HOUR + 10 * day)
    assert [fund(it, HOUR + 20 * day) for it in (Scheme.TIDES, Scheme.PPS, Scheme.PPLNS4)] == ["pplns4"] * 3


@pytest.mark.sqlite_suffices
def test_who_finds_blocks_for_another_name_at_his_site_is_seen_by_its_luck(group: Group) -> None:
    """Who has taken over a site says whose machine found a block. Of two tenants of his there, one is alone
    in a scheme, has worked for its window once, and no more; the other is paid by PPS, and finds the blocks.
    Each pays that window once more: of a tenth of a percent of Bitcoin 0.45 BTC a day. It is seen: where one
    and a half were expected eight were found."""
    group.change("acme", Scheme.PPLNS1, HOUR - 40)
    group.mine(ACME, HOUR - 20, shares_of(Fraction(3, 2)))
    for hour in range(8):
        group.find(ACME, HOUR + hour, said=Scheme.PPLNS1)
    posted = [part.posted_sat for parts in group.divide() for part in parts]
    assert posted == [pytest.approx(INCOME_SAT * 98 // 100, abs=1)] * 8
    with group.store.read() as connection:
        seen = luck_of_tenant(connection, DAYS, "acme")
    assert seen is not None
    assert (seen.found, seen.hint) == (8, Hint.MANY)


def shares_of(of: Fraction) -> int:
    """So many shares that they are as many expected blocks, rounded up."""
    return -int(-of / A_SHARE // 1)


def test_a_block_is_divided_over_the_window_and_what_is_not_full_is_the_pools(group: Group) -> None:
    """The same rows on both databases, which are compared below with what was added up by hand."""
    shares = 20
    group.mine(ACME, HOUR - 2, shares)
    group.mine(BOREALIS, HOUR - 3, 2 * shares)
    group.mine(BOREALIS, HOUR - 1, 9999)  # of the hour before the block and its own: not paid, and its lag
    group.mine(ACME, HOUR, 10**9)
    group.mine(CITADEL, HOUR - 3, 12_345)
    block = group.find(ACME, HOUR)
    (parts,) = group.divide()
    work = {ACME: shares * A_SHARE, BOREALIS: 2 * shares * A_SHARE}
    assert sum(work.values()) < 2
    assert [it.tenant_id for it in parts] == [ACME, BOREALIS]
    for part in parts:
        worth_psat = work[part.tenant_id] * INCOME_SAT / 2 * PSAT_PER_SAT
        fee_bps = 200 if part.tenant_id == ACME else 0
        assert part.credit.psat == worth_psat * (10_000 - fee_bps) // 10_000
        assert part.fee.psat == worth_psat * fee_bps // 10_000
    found = group.balances()
    acme, borealis = (parts[0].posted_sat, parts[1].posted_sat)
    assert found[payable(ACME)] == acme > 0
    assert found[payable(BOREALIS)] == borealis
    assert found[DIVIDED] == -acme - borealis - found[FEES]
    assert found[PoolAccount.BLOCK_INCOME_MATURED] == INCOME_SAT
    assert group.rows()[0] == (block, "pplns2", NBITS, NOW_S + 900, str((10**9 + 9999) * A_SHARE))
    assert group.rows()[1] == (1, block, HOUR - 3, HOUR - 2, NOW_S + 10**6)
    assert group.rows()[2:4] == [(1, 1, str(work[ACME])), (1, 2, str(work[BOREALIS]))]


@pytest.mark.sqlite_suffices
def test_a_full_window_divides_all_of_the_block_and_the_oldest_hour_in_part(group: Group) -> None:
    for hour in (HOUR - 1, HOUR - 2, HOUR - 5, HOUR - 60):  # the oldest is behind days without work
        group.mine(ACME if hour == HOUR - 5 else BOREALIS, hour, shares_of(Fraction(3, 4)))
    group.find(BOREALIS, HOUR)
    (parts,) = group.divide()
    paid = sum((it.credit.psat + it.fee.psat for it in parts), 0)
    assert 0 <= INCOME_SAT * PSAT_PER_SAT - paid < 4
    assert group.rows()[1][2:4] == (HOUR - 60, HOUR - 2)
    assert [it.tenant_id for it in parts] == [ACME, BOREALIS]


@pytest.mark.sqlite_suffices
def test_what_is_below_a_satoshi_is_carried_from_block_to_block(group: Group) -> None:
    group.mine(ACME, HOUR - 9, 1, log2=18)
    group.mine(BOREALIS, HOUR, 10**6)
    posted = []
    for _ in range(9):
        group.find(ACME, HOUR + 1)
        ((part,),) = group.divide()
        posted.append(part.posted_sat)
    assert sum(posted) == 9 * part.credit.psat // PSAT_PER_SAT
    assert 0 in posted, "less than one at a time"
    with group.store.read() as connection:
        assert division_carry(connection, ACME).credit_psat == 9 * part.credit.psat % PSAT_PER_SAT


@pytest.mark.sqlite_suffices
def test_it_waits_for_the_block_to_mature_and_for_the_books_to_pass_what_it_pays(group: Group) -> None:
    group.mine(ACME, HOUR - 2, 10)
    group.mine(ACME, HOUR, 10**6)
    for until in (Status.PENDING, Status.ORPHANED):
        group.find(ACME, HOUR, until=until)
    assert group.divide() == []
    block = group.find(ACME, HOUR)
    assert group.divide((HOUR - 1) * 3600 - 1) == []
    group.mine(BOREALIS, HOUR - 2, 6)  # what came late, before the books have passed it
    ((acme, borealis),) = group.divide((HOUR - 1) * 3600)
    assert acme.credit.psat < 2 * borealis.credit.psat
    before = group.balances()
    with group.store.write() as connection:  # by a reorganisation of over a hundred: the pool's loss
        assert mark(connection, block, Status.ORPHANED, NOW_S + 10**6)
        assert mark(connection, block, Status.PENDING, NOW_S + 10**6)
        assert mark(connection, block, Status.MATURED, NOW_S + 10**6)
    assert group.divide() == []
    assert group.balances() == before


@pytest.mark.sqlite_suffices
def test_whose_a_block_is_follows_from_the_terms_at_the_time_in_its_header(group: Group) -> None:
    def fund(tenant: int, hour: int) -> str | None:
        block = group.find(tenant, hour)
        with group.store.read() as connection:
            return connection.scalar(select(block_funds.c.scheme).where(block_funds.c.block_hash == block))

    assert fund(ACME, HOUR) == "pplns2"
    assert fund(CITADEL, HOUR) is None
    with group.store.write() as connection:
        set_terms(
            connection,
            "acme",
            TenantTerms(scheme=Scheme.TIDES, fee_bps=0, payout_minimum_sat=0),
            by="ann",
            now_s=NOW_S + 3600,
        )
        set_terms(connection, "citadel", TERMS, by="ann", now_s=NOW_S + 3600)
    for hour, tenant in ((HOUR, ACME), (HOUR, BOREALIS), (HOUR + 1, ACME), (HOUR + 1, BOREALIS)):
        group.mine(tenant, hour, 100)
    # Dated back to before the change of terms they are the pool's: what they were found under is not known.
    assert [fund(it, HOUR) for it in (ACME, BOREALIS, CITADEL)] == [None, "pplns2", None]
    assert [fund(it, HOUR + 2) for it in (ACME, BOREALIS, CITADEL)] == ["tides", "pplns2", "pplns2"]
    paid = [[it.tenant_id for it in parts] for parts in group.divide()]
    assert sorted(paid) == [[], [], [ACME], [BOREALIS], [BOREALIS]], "each group by its own work"


@pytest.mark.sqlite_suffices
def test_tides_measures_work_by_the_block_and_pplns_by_the_chance_that_it_had(store: Store) -> None:
    group = Group(store, Scheme.TIDES)
    group.mine(ACME, HOUR - 4, 1000)
    group.mine(BOREALIS, HOUR - 4, 1000, nbits=EASIER)
    group.mine(ACME, HOUR, 10**6, nbits=EASIER)
    group.find(ACME, HOUR, nbits=EASIER)
    ((acme, borealis),) = group.divide()
    assert 0 <= borealis.credit.psat - acme.credit.psat - acme.fee.psat <= 1, "the same difficulty"
    group.balances()


@pytest.mark.sqlite_suffices
def test_shares_of_a_dividing_scheme_accrue_nothing_and_its_blocks_are_no_luck_of_the_pools(
    group: Group,
) -> None:
    group.mine(ACME, HOUR - 4, 10**6)
    group.mine(CITADEL, HOUR - 4, 10**6)
    with group.store.write() as connection:
        settled = settle(connection, NOW_S)
    assert [bool(it.posted_sat) for it in settled] == [False, True]
    group.find(ACME, HOUR)
    group.find(CITADEL, HOUR)
    with group.store.read() as connection:
        report, before = (pool_report(connection, it) for it in (DAYS, Period(date(2020, 1, 1), DAY)))
    assert report.luck is not None
    assert report.luck.found == 1
    (luck,) = report.groups
    assert (luck.scheme, luck.found) == ("pplns2", 1)
    assert float(luck.expected) == pytest.approx(float(10**6 * A_SHARE), rel=1e-5)
    assert before.groups == ()
    document = pool_document(report)
    assert json.loads(render_json(document))["pool"]["groups"][0]["expected"] == luck.expected
    assert f"group_luck,PPLNS2,1,{luck.expected}," in render_csv(document).decode()
    assert "LUCK OF GROUPS WHOSE BLOCKS ARE DIVIDED" in render_text(document, 120).decode()
    assert Kind.DIVISION not in REFUSED, "two persons may take it back"


@pytest.mark.sqlite_suffices
def test_a_statement_tells_each_block_with_its_window_and_luck_and_can_be_computed_again(
    group: Group,
) -> None:
    group.mine(ACME, HOUR - 3, 20)
    with group.store.write() as connection:
        terms = TenantTerms(scheme=Scheme.PPLNS2, fee_bps=50, payout_minimum_sat=0)
        set_terms(connection, "acme", terms, by="ann", now_s=NOW_S - 9000)
    group.mine(ACME, HOUR - 2, 30)
    group.mine(BOREALIS, HOUR - 2, 7)
    group.mine(BOREALIS, HOUR, 10**5)
    hashes = [group.find(it, HOUR) for it in (ACME, BOREALIS)]
    done = group.divide()
    with group.store.read() as connection:
        made = statement(connection, "acme", DAY, DAY + timedelta(20))
        assert statement(connection, "citadel", DAY, DAY + timedelta(20)).divided is None
    posted_sat = sum(parts[0].posted_sat for parts in done)
    assert (made.money.divided_sat, made.money.closing_sat, made.adjustments) == (posted_sat, posted_sat, ())
    assert made.divided is not None
    assert [it.hash for it in made.divided.blocks] == hashes
    (block, _), (luck,) = made.divided.blocks, made.divided.luck
    assert [(it.fee_bps, Fraction(it.blocks)) for it in block.works] == [
        (50, 30 * A_SHARE),
        (200, 20 * A_SHARE),
    ]
    assert (block.window_blocks, Fraction(block.full_blocks)) == (2, 57 * A_SHARE)
    assert (block.first_hour_utc, block.last_hour_utc) == (utc(NOW_S - 3 * 3600), utc(NOW_S - 2 * 3600))
    assert (luck.scheme, luck.found) == ("pplns2", 2)
    assert float(luck.expected) == pytest.approx(float((10**5 + 57) * A_SHARE), rel=1e-5)
    assert hashes[1] in render_text(statement_document(made), 250).decode()
    assert wrong_of(plain(made)) == []


def plain(made: Statement) -> Any:
    """As it is in a file."""
    return msgspec.json.decode(msgspec.json.encode(made))


def wrong_of(said: Any) -> list[str]:
    """What an auditor finds in a statement, whose hash is right."""
    report = angara_verify.Report()
    digest = sha256(angara_verify.canonical(said)).hexdigest()
    angara_verify.check_statement({"statement": said, "content_sha256": digest}, report)
    return report.wrong


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("before", [False, True])
def test_a_block_that_a_group_found_and_that_is_not_divided_is_found_by_an_audit(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    before: bool,
) -> None:
    """Also where a version of before booked it, when the ledger did not say whose a block is; but not where
    its finder's terms are of the month in which it was found."""
    group = Group(store)
    group.mine(ACME, HOUR - 3, 20)
    if before:
        monkeypatch.setattr("payouts.income.owner_words", lambda *_: "")
    with monkeypatch.context() as forgets:
        forgets.setattr("tests.payouts.test_divisions.record_fund", lambda *_: None)
        group.change("citadel", Scheme.PPLNS2, HOUR)
        group.find(CITADEL, HOUR + 1, until=Status.PENDING)
        group.balances()
        block = group.find(ACME, HOUR + 1, until=Status.PENDING)
    with store.read() as connection:
        wrong = audit(connection).wrong
    assert wrong is not None
    assert (wrong.table, wrong.row) == ("block_funds", block)
    assert wrong.reason == "it is missing: who found it was of a group"


CHANGED = ("credit_psat", "pool_fee_psat", "posted_sat", "carry_out_psat", "window_blocks", "income_sat")


@pytest.mark.sqlite_suffices
def test_whatever_a_pool_changes_of_a_divided_block_in_a_statement_is_found(group: Group) -> None:
    group.mine(ACME, HOUR - 3, 20)
    group.mine(BOREALIS, HOUR, 10**5)
    for _ in range(2):
        group.find(ACME, HOUR)
    group.divide()
    with group.store.read() as connection:
        said = plain(statement(connection, "acme", DAY, DAY + timedelta(20)))
    assert wrong_of(said) == []
    for field in (
        "credit_psat",
        "pool_fee_psat",
        "posted_sat",
        "carry_out_psat",
        "window_blocks",
        "income_sat",
    ):
        for block in (0, 1):
            assert wrong_of(altered(said, ("divided", "blocks", block, field), 1)), field
    for path, new in (
        (("money", "divided_sat"), 1),
        (("divided", "blocks", 0, "full_blocks"), "1/100"),
        (("divided", "blocks", 0, "works", 0, "blocks"), "1/7"),
        (("divided", "blocks", 0, "works", 0, "fee_bps"), 300),
        (("divided", "blocks", 0, "scheme"), "pplns8"),
        (("divided", "blocks", 1, "hash"), said["divided"]["blocks"][0]["hash"]),
        (("divided",), {"blocks": [], "luck": []}),
    ):
        assert wrong_of(altered(said, path, new)), path
    without = {name: value for name, value in said.items() if name != "divided"}
    assert wrong_of(without), "what is booked has no block"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE block_funds SET ahead = '0'",
        "DELETE FROM division_works",
        "UPDATE division_parts SET posted_sat = 0",
        "UPDATE divisions SET first_hour = 0",
    ],
)
def test_the_database_refuses_to_change_a_division(group: Group, change: str) -> None:
    group.mine(ACME, HOUR - 4, 1000)
    group.mine(ACME, HOUR, 10**6)
    group.find(ACME, HOUR)
    group.divide()
    with pytest.raises(DatabaseError, match="append-only"), group.store.write() as connection:
        connection.exec_driver_sql(change)
