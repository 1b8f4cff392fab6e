"""`angara payout` as people use it: in words, and as a real process that is killed with kill -9."""

import json
import re
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from payouts.batches.batch import AttemptState, State
from pool.books.book import bind, network_of
from pool.books.journal.start import open_journals
from pool.cli.main import app
from pool.data_dir import held
from pool.journal.records import Batch, packed
from tests.fixtures.databases import store_in
from tests.stages.journal import NOW_S
from tests.stages.payout_office import CAP_SAT, office
from tests.stages.payouts import (
    APPROVER,
    COIN_SAT,
    COINS,
    PAID_SAT,
    PAYEES,
    SETTINGS,
    Regtest,
    add_tenant,
    credit,
    set_address,
)
from tests.stages.people import log_in

TOTAL_SAT = sum(PAID_SAT.values())


async def test_a_batch_from_the_preview_to_the_last_confirmation(regtest: Regtest, tmp_path: Path) -> None:
    async with office(regtest, tmp_path) as it:
        said = await it.good("preview")
        assert "acme" in said
        assert "0.00700001" in said
        assert f"3 payees, 0.02800006 BTC ({TOTAL_SAT:,} sat)" in said
        said = await it.good("create", *it.ann)
        digest = it.world.batch().digest
        assert f"digest {digest}" in said
        assert "0 payees" in await it.good("preview")
        await it.approve()
        back = await it.sign()
        assert stat.S_IMODE((tmp_path / "given.psbt").stat().st_mode) == 0o600
        first = it.world.batch().attempts[0]
        txid = first.txid
        exported = json.loads(await it.good("export", "1", "--json", *it.ann))
        assert f"{exported.pop('psbt')}\n" == (tmp_path / "given.psbt").read_text()
        assert exported == {"batch": 1, "attempt": 1, "txid": txid, "fee_sat": first.fee_sat}
        assert f"{txid} is signed" in await it.good("import", "1", str(back), *it.ann)
        assert "nothing is changed" in await it.good("import", "1", str(back), *it.ann)
        assert (await it.good("broadcast", "1", *it.ann)).endswith("node one: sent\n")
        said = await it.good("bump", "1", "--fee-rate", "9", *it.ann)
        second = it.world.batch().attempts[1].txid
        assert f"attempt 2: txid {second}" in said
        await it.good("import", "1", str(await it.sign()), *it.ann)
        await it.good("broadcast", "1", *it.ann)
        assert it.world.pending() == [second]
        await it.world.mine()
        assert f"batch 1 is in the chain: {second}" in await it.good("follow", "--once")
        await it.world.mine(5)
        [news] = map(json.loads, (await it.good("follow", "--json")).splitlines())
        assert (news["batch"], news["news"]) == (1, f"batch 1 is final: {second}")
        assert await it.good("follow") == "no batch is under way\n"
        fee_sat = it.world.batch().attempts[1].fee_sat
        said = await it.good("show", "1")
        for words in (
            digest,
            second,
            f"({fee_sat:,} sat)",
            f"approved by {APPROVER}",
            "attempt 1 is replaced",
        ):
            assert words in said
        said = await it.good("list")
        assert re.search(rf"1 .* final .* 3 .* 0\.02800006 .* {TOTAL_SAT:,} .* {fee_sat:,} .* {second}", said)
        assert it.world.paid_sat() == PAID_SAT
        assert (await it.good("reconcile", *it.ann)).endswith("the books agree with the chain\n")


async def test_nobody_accepts_what_is_too_much_while_work_that_it_paid_waits_in_the_journal(
    regtest: Regtest, tmp_path: Path
) -> None:
    """After a restore: two persons' word would make it the pool's loss, and the start credits the work."""
    async with office(regtest, tmp_path) as it:
        (opened,) = open_journals(it.world.store, tmp_path / "data")
        begins = opened.beginning
        opened.log.begin(begins.behind, begins.moment_s, begins.accepted, taken=begins.taken)
        opened.log.append(packed(Batch(moment_s=NOW_S, accepted=0)), NOW_S, 0)
        said = await it.mistake("reconcile", "--accept", "ab" * 32, *it.ann)
        assert "1 batches of the journal wait for the books" in said
        assert "start it, and a minute later run `angara payout reconcile` again" in said
        assert (await it.good("reconcile", *it.ann)).endswith("the books agree with the chain\n")
        with held(tmp_path / "data"):
            assert await it.good("reconcile", "--accept", "ab" * 32, *it.ann)
        opened.log.append(packed(Batch(moment_s=NOW_S, accepted=5)), NOW_S, 5)
        opened.log.close()
        said = await it.mistake("reconcile", "--accept", "ab" * 32, *it.ann)
        assert "it counts 5 accepted shares, where 0 are in it; see `angara ledger verify`" in said


async def test_what_others_chose_is_text_wherever_payouts_are_shown(regtest: Regtest, tmp_path: Path) -> None:
    """Names are what a registry took in some version, words are a node's: neither is markup, nor moves the
    cursor."""
    async with office(regtest, tmp_path) as it:
        with it.world.store.write() as connection:
            for name, minimum_sat in (("[/x]", 1_000), ("[red]late[/red]", 50_000)):
                tenant_id = add_tenant(connection, name, minimum_sat=minimum_sat)
                set_address(connection, tenant_id, PAYEES[0][1])
                credit(connection, tenant_id, 20_000, name)
        said = await it.good("preview")
        assert "[/x]" in said
        assert "[red]late[/red]" in said
        assert "[/x]" in await it.good("create", *log_in(it.world.store, tmp_path, "[/y]"))
        said = await it.good("show", "1")
        assert "[/x]" in said
        assert "drafted by [/y]" in said
        await it.good("approve", "1", "--digest", it.world.batch().digest, "--fee-cap-sat", str(CAP_SAT))
        await it.good("import", "1", str(await it.sign()), *it.ann)
        it.node.says = "\x1b[2J[/z] all is well"
        said = await it.good("broadcast", "1", *it.ann)
        assert r"node one: refused \x1b[2J[/z] all is well" in said
        assert "final" not in await it.good("list")


async def test_a_mistake_is_answered_in_words(regtest: Regtest, tmp_path: Path) -> None:
    async with office(regtest, tmp_path) as it:
        assert "there is no batch 7" in await it.mistake("show", "7")
        assert "there is no batch 7" in await it.mistake("export", "7")
        await it.good("create", *it.ann)
        assert "batch 1 is a draft already" in await it.mistake("create", *it.ann)
        digest = it.world.batch().digest
        approve = ("approve", "1", "--fee-cap-sat", "1", "--digest")
        assert "somebody else" in await it.mistake(*approve, digest, *it.ann)
        assert "another digest" in await it.mistake(*approve, "00", *it.bob)
        assert "is draft: there is no PSBT" in await it.mistake("export", "1", *it.ann)
        await it.good(*approve, digest, *it.bob)
        assert "approve a higher cap" in await it.mistake("export", "1", *it.ann)
        assert "fee rate is 1 to" in await it.mistake("export", "1", *it.ann, "--fee-rate", "0")
        assert "No such file" in await it.mistake("import", "1", str(tmp_path / "none"))
        assert "0.02800006 BTC" in await it.good("cancel", "1", *it.ann)


async def test_what_is_not_the_payout_is_quarantined(regtest: Regtest, tmp_path: Path) -> None:
    async with office(regtest, tmp_path) as it:
        await it.good("create", *it.ann)
        await it.approve()
        back = await it.sign()
        back.write_bytes(b"junk" * 100)
        words = await it.mistake("import", "1", str(back), *it.ann, code=1)
        assert "quarantined, nothing is sent: it is no transaction and no PSBT" in words
        assert "attempt 1 is quarantined" in await it.good("show", "1")
        assert "nothing is signed yet" in await it.mistake("broadcast", "1", *it.ann)


async def test_what_the_settings_have_to_have(regtest: Regtest, tmp_path: Path) -> None:
    async with office(regtest, tmp_path) as it:
        runner = CliRunner()
        data = ["--data-dir", str(tmp_path / "data")]
        for command in (["preview"], ["list"]):  # no node is needed for these
            assert runner.invoke(app, ["payout", *command, *data]).exit_code == 0
        refused = runner.invoke(app, ["payout", "create", *data])
        assert (refused.exit_code, "give --config" in refused.stderr) == (2, True)
        settings = (tmp_path / "angara.toml").read_text()
        for text, words in (
            (settings.split("[payouts]")[0], "no [payouts]"),
            (settings.replace("addresses = 20", "addresses = 0"), "payouts.addresses: 0 is not within 1 to"),
            (settings.replace("tpub", "tpriv"), "descriptor: cannot be read"),
            (settings.replace("addresses", "adresses"), "adresses"),
        ):
            (tmp_path / "angara.toml").write_text(text)
            assert words in await it.mistake("create")


def test_a_preview_writes_nothing(tmp_path: Path) -> None:
    """Not even of which network the book is; so it asks no pool that runs for its lease."""
    (tmp_path / "data").mkdir()
    store = store_in(tmp_path / "data")
    (tmp_path / "angara.toml").write_text(SETTINGS.split("[payouts]")[0].format(port=1))
    command = ["payout", "preview", "--json", "-c", str(tmp_path / "angara.toml")]
    result = CliRunner().invoke(app, command)
    assert json.loads(result.stdout) == {"payees": [], "total_sat": 0, "held_back": []}
    with store.read() as connection:
        assert network_of(connection) is None
    bind(store, "main")
    assert "a book of main, the settings say regtest" in CliRunner().invoke(app, command).stderr
    store.close()


async def test_a_node_that_is_down_is_told(regtest: Regtest, tmp_path: Path) -> None:
    async with office(regtest, tmp_path) as it:
        text = (tmp_path / "angara.toml").read_text()
        (tmp_path / "angara.toml").write_text(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", text))
        assert "no node can be asked (one: cannot connect" in await it.mistake("create")
        assert it.world.batches() == ()


@pytest.mark.long
async def test_kill_9_while_the_node_has_what_was_signed(regtest: Regtest, tmp_path: Path) -> None:
    """A process that dies with SIGKILL; the same command again, and each tenant is paid once. At every other
    point it dies in tests/faults/test_17_payouts_killed.py, in this process."""
    async with office(regtest, tmp_path) as it:
        await it.good("create", *it.ann)
        await it.approve()
        back = await it.sign()
        it.node.hold("testmempoolaccept", carried_out=True)
        await it.kill("import", "1", str(back), *it.ann)
        assert it.world.batch().attempts[0].state is AttemptState.GIVEN
        await it.good("import", "1", str(back), *it.ann)
        it.node.hold("sendrawtransaction", carried_out=False)
        await it.kill("broadcast", "1", *it.ann)
        assert (it.world.batch().state, it.world.pending()) == (State.BROADCAST, [])
        await it.good("broadcast", "1", *it.ann)
        await it.good("bump", "1", "--fee-rate", "9", *it.ann)
        await it.good("import", "1", str(await it.sign()), *it.ann)
        it.node.hold("sendrawtransaction", carried_out=True)
        await it.kill("broadcast", "1", *it.ann)
        assert it.world.pending() == [it.world.batch().attempts[1].txid]
        await it.world.mine(6)
        await it.good("follow")
        fee_sat = it.world.batch().attempts[1].fee_sat
        assert it.world.batch().state is State.FINAL
        assert it.world.paid_sat() == PAID_SAT
        assert it.world.wallet_sat() == COINS * COIN_SAT - TOTAL_SAT - fee_sat
        assert it.world.balances() == {
            "pool.coins": TOTAL_SAT + fee_sat,
            "pool.node_fees": -fee_sat,
            "pool.pps_expense": -TOTAL_SAT,
        }
