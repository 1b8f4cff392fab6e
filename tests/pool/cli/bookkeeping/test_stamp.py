"""`angara proof stamp` at a terminal: from the day's root to a block that has its hash."""

import json
from pathlib import Path

from opentimestamps.core.serialize import BytesDeserializationContext
from opentimestamps.core.timestamp import DetachedTimestampFile

from tests.stages.calendar import calendar, commitment_of, mined
from tests.stages.payout_office import close_the_day, office
from tests.stages.payouts import Regtest

STAMP = "proof stamp"


async def test_from_a_root_to_a_block_that_has_its_hash(regtest: Regtest, tmp_path: Path) -> None:
    with calendar() as first:
        async with office(regtest, tmp_path) as it:
            close_the_day(it)
            assert "the settings have no calendars in [proof]" in await it.mistake("make", group=STAMP)
            with calendar() as gone:
                named = f'[proof]\ncalendars = ["{gone.url}", "{first.url}"]'
            settings = tmp_path / "angara.toml"
            settings.write_text(settings.read_text().replace("[proof]", named))
            root = json.loads(await it.good("roots", "--json", group="proof"))[0]
            digest, file = bytes.fromhex(root["hash"]), tmp_path / "stamps" / "root-1.ots"

            result = await it.run("make", group=STAMP)
            assert (result.exit_code, result.stdout) == (0, "more is known of root 1\n")
            assert f"{gone.url}: it cannot be asked: ConnectError" in result.stderr
            assert first.told == [digest], "the hash of a root that is published, and nothing else"
            assert file.stat().st_mode & 0o777 == 0o600
            read = DetachedTimestampFile.deserialize(BytesDeserializationContext(file.read_bytes()))
            assert read.file_digest == digest, "any program of OpenTimestamps reads it"
            (waits,) = json.loads(await it.good("list", "--json", group=STAMP))
            assert (waits["state"], waits["calendars"]) == ("waits for a block", [first.url])
            before = file.read_bytes()
            assert await it.good("make", group=STAMP) == "nothing is new\n"

            commitment = commitment_of(digest)
            first.known[commitment.hex()] = await mined(it.world, commitment)
            assert json.loads(await it.good("make", "--json", group=STAMP))["changed"] == [1]
            (row,) = json.loads(await it.good("list", "--json", group=STAMP))
            height = it.world.chain.tip.height - 5
            assert (row["root"], row["state"], row["block"]) == (1, "in the chain", height)
            assert (row["confirmations"], row["calendars"]) == (6, [])
            block_hash = (it.world.chain.hash_at(height) or b"")[::-1].hex()
            assert (await it.world.rpc.call("getblock", block_hash))["merkleroot"] == row["merkle_root"]
            assert await it.good("make", group=STAMP) == "nothing is new\n"

            close_the_day(it, 2)
            first.known.clear()
            assert await it.good("make", group=STAMP) == "more is known of root 2\n"
            assert "in the chain" in (told := await it.good("list", group=STAMP))
            assert "waits for a block" in told
            file.write_bytes(before.replace(digest, bytes(32)))
            wrong = await it.run("list", group=STAMP)
            assert (wrong.exit_code, "WRONG" in wrong.stdout, "of another hash" in wrong.stdout) == (
                1,
                True,
                True,
            )


async def test_what_a_reorganisation_takes_away_is_said(regtest: Regtest, tmp_path: Path) -> None:
    with calendar() as first:
        async with office(regtest, tmp_path) as it:
            close_the_day(it)
            settings = tmp_path / "angara.toml"
            named = f'[proof]\ncalendars = ["{first.url}"]'
            settings.write_text(settings.read_text().replace("[proof]", named))
            await it.good("make", group=STAMP)
            commitment = commitment_of(first.told[0])
            first.known[commitment.hex()] = await mined(it.world, commitment)
            await it.good("make", group=STAMP)
            assert "in the chain" in await it.good("list", group=STAMP)
            await it.world.reorganise(7)
            wrong = await it.run("list", group=STAMP)
            assert wrong.exit_code == 1
            assert "WRONG: the chain has it in no block that it names" in wrong.stdout
        gone = await it.run("list", group=STAMP)
        assert "not looked up" in gone.stdout
    close_the_day(it, 2)
    it.world.store.close()  # opened anew: the office has closed its own
    nobody = await it.run("make", group=STAMP)
    assert (nobody.exit_code, nobody.stdout) == (1, "nothing is new\n")
