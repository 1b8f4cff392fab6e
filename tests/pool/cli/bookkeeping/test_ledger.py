"""`angara ledger verify` and `angara ledger reverse` as an operator types them."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from payouts.rates import Scheme
from pool.cli.main import app
from pool.fleet.rows import TenantTerms, add_tenant
from tests.fixtures.databases import disarm, store_in
from tests.stages.payouts import credit
from tests.stages.people import log_in


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Books with one credit."""
    store = store_in(tmp_path)
    terms = TenantTerms(scheme=Scheme.PPS, fee_bps=0, payout_minimum_sat=0)
    with store.write() as connection:
        tenant = add_tenant(connection, "acme", terms, by="test", now_s=0)
        credit(connection, tenant.id, 1000, "work")
    store.close()
    return tmp_path


def test_an_untouched_ledger_is_verified(data_dir: Path) -> None:
    ran = CliRunner().invoke(app, ["ledger", "verify", "--data-dir", str(data_dir)])
    assert ran.exit_code == 0
    assert ran.output.startswith("ok: 1 transactions")


def test_a_touched_ledger_is_told_with_its_first_wrong_row(data_dir: Path) -> None:
    store = store_in(data_dir)
    with store.write() as connection:
        disarm(connection)
        connection.execute(text("UPDATE ledger_transfers SET amount_sat = 1001"))
    store.close()
    ran = CliRunner().invoke(app, ["ledger", "verify", "--data-dir", str(data_dir)])
    assert ran.exit_code == 1
    assert ran.output.startswith("WRONG ledger_transactions 1: ")


def test_from_a_checkpoint_on_what_is_before_it_is_not_looked_at_but_with_full(data_dir: Path) -> None:
    def ledger(*command: str) -> tuple[int, str]:
        ran = CliRunner().invoke(app, ["ledger", *command, "--data-dir", str(data_dir)])
        return ran.exit_code, ran.output

    code, output = ledger("verify")
    assert (code, "from the first row on: `angara ledger checkpoint` noted none" in output) == (0, True)
    assert ledger("checkpoint") == (0, "all is well up to transaction 1: noted as change 1\n")
    with closing(store_in(data_dir)) as store, store.write() as connection:
        disarm(connection)
        connection.execute(text("UPDATE ledger_transactions SET memo = 'other'"))
    code, output = ledger("verify")
    assert (code, "from the checkpoint in change 1 on" in output, "noted none" in output) == (0, True, False)
    for command in (("verify", "--full"), ("checkpoint",)):
        code, output = ledger(*command)
        assert code == 1
        assert output.startswith("WRONG ledger_transactions 1: ")


def test_a_reversal_is_proposed_by_one_and_confirmed_by_another(data_dir: Path) -> None:
    with closing(store_in(data_dir)) as store:
        ann, bob = (log_in(store, data_dir, name) for name in ("ann", "bob"))

    def ran(*args: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["ledger", "reverse", *args, "--data-dir", str(data_dir)])
        return result.exit_code, result.stdout, result.stderr

    why = "the wrong tenant was credited"
    code, said, _ = ran("1", "--why", why, *ann)
    assert (code, "somebody else runs `angara ledger reverse 1 --confirm 1`" in said) == (0, True)
    code, said, _ = ran("1")
    assert code == 0
    for words in ("transaction 1, settlement", "1,000 sat from pool.pps_expense", "by ann", why):
        assert words in said
    for args, words in (
        (("1", "--confirm", "1", *ann), "somebody else has to"),
        (("1", "--confirm", "7", *bob), "there is no proposal 7"),
        (("7",), "there is no transaction 7"),
        (("1", "--why", "", *bob), "a reason is"),
    ):
        code, _, said = ran(*args)
        assert (code, words in said, "Traceback" in said) == (2, True, False)
    proposed = CliRunner().invoke(app, ["payout", "proposals", "--json", "--data-dir", str(data_dir)])
    assert [(it["kind"], it["proposed_by"]) for it in json.loads(proposed.stdout)] == [("reversal", "ann")]
    assert ran("1", "--confirm", "1", *bob)[:2] == (0, "transaction 2 reverses transaction 1\n")
    assert "transaction 2 reversed it already" in ran("1")[1]
    assert ran("1", "--why", "again", *ann)[0] == 2
    verified = CliRunner().invoke(app, ["ledger", "verify", "--data-dir", str(data_dir)])
    assert (verified.exit_code, verified.output.startswith("ok: 2 transactions")) == (0, True)
