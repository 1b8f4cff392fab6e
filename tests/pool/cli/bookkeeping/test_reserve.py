"""`angara proof reserve` at a terminal: from the day's root to a file that an auditor believes."""

import base64
import json
from pathlib import Path

from typer.testing import CliRunner

from pool.cli.main import app
from tests.histories.proof import KEY
from tests.stages.payout_office import close_the_day, office
from tests.stages.payouts import (
    COIN_SAT,
    COINS,
    PAID_SAT,
    Regtest,
    Signer,
    private_descriptors,
)

RESERVE, OWED_SAT = "proof reserve", sum(PAID_SAT.values())


async def test_from_a_root_to_a_reserve_that_an_auditor_believes(regtest: Regtest, tmp_path: Path) -> None:
    async with office(regtest, tmp_path) as it:
        given, back, published, roots = (
            tmp_path / f"{name}.txt" for name in ("given", "back", "out", "roots")
        )
        words = await it.mistake("export", "--out", str(given), *it.ann, group=RESERVE)
        assert "the settings have no [proof]" in words
        close_the_day(it)
        said = await it.good("export", "--out", str(given), *it.ann, group=RESERVE)
        assert f"3 coins of {COINS * COIN_SAT:,} sat; {OWED_SAT:,} sat are owed to all" in said
        assert f"for {it.world.signer.address(0)}:\nangara reserve 1; regtest; " in said
        fewer = json.loads(
            await it.good("export", "--out", str(back), "--most", "1", "--json", *it.ann, group=RESERVE)
        )
        assert (fewer["coins"], fewer["total_sat"], fewer["left_out"]) == (1, COIN_SAT, 2)
        few, whole = (it.world.signer.sign(base64.b64decode(file.read_text())) for file in (back, given))
        back.write_bytes(few)
        short = await it.run("import", str(back), *it.ann, group=RESERVE)
        assert (short.exit_code, "less than is owed to all" in short.stderr) == (0, COIN_SAT < OWED_SAT)
        back.write_bytes(whole)
        assert "reserve 2, of root 1: 3 coins" in await it.good("import", str(back), *it.ann, group=RESERVE)
        assert "nothing is changed" in await it.good("import", str(back), *it.ann, group=RESERVE)
        given.write_text("none")
        assert "no transaction and no PSBT" in await it.mistake("import", str(given), *it.ann, group=RESERVE)
        first, second = json.loads(await it.good("list", "--json", group=RESERVE))
        assert (first["total_sat"], second["total_sat"]) == (COIN_SAT, COINS * COIN_SAT)
        assert (second["owed_sat"], second["made_by"]) == (OWED_SAT, "ann")
        await it.good("show", "2", "--out", str(published), group=RESERVE)
        message, signature = (await it.good("show", "2", "--pof", group=RESERVE)).splitlines()
        assert message.startswith("angara reserve 1; regtest; ")
        assert signature.startswith("pofcHNidP8")
        assert "there is no reserve 3" in await it.mistake("show", "3", group=RESERVE)
        roots.write_text(await it.good("roots", "--json", group="proof"))
        asked = [str(published), "--key", KEY.public.hex(), "--roots", str(roots)]
        found = CliRunner().invoke(app, ["verify", *asked])
        assert (found.exit_code, "WRONG" in found.stdout) == (0, False), found.stdout
        assert f"{COINS * COIN_SAT} sat are signed for, and {OWED_SAT} sat owed to all" in found.stdout
        cold, _, _ = Signer(*private_descriptors("tr", 99)).public()[0].partition("#")
        settings = tmp_path / "angara.toml"
        named = f'addresses = 20\ndeposit_descriptor = "{cold}"'
        settings.write_text(settings.read_text().replace("addresses = 20", named))
        beside = ("--descriptor", cold.replace("/0/*", "/<0;1>/*"))
        words = await it.mistake("export", "--out", str(given), *beside, *it.ann, group=RESERVE)
        assert "coins of that wallet are what buyers paid" in words
