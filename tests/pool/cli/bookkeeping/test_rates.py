"""`angara rate quote` as an operator types it."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pool.cli.main import app

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent.parent.parent / "vectors" / "pps.json").read_text()
)


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_a_quote_is_exact_to_the_picosatoshi(vector: dict[str, Any]) -> None:
    arguments = ["rate", "quote", "--nbits", vector["nbits"], "--height", str(vector["height"])]
    arguments += ["--difficulty", vector["difficulty"], "--shares", str(vector["shares"])]
    arguments += ["--fee-bps", str(vector["fee_bps"])]
    if vector["block_fees_sat"]:
        arguments += ["--block-fees-sat", str(vector["block_fees_sat"])]
    ran = CliRunner().invoke(app, arguments)
    assert ran.output == f"{vector['sat']} {vector['carry_psat']}\n"


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--nbits", "5 GW", "--nbits: '5 GW' is not in hex, like 1d00ffff"),
        ("--nbits", "00000000", "nBits 00000000 is a target of zero"),
        ("--difficulty", "64k", "--difficulty: '64k' is not like 65536, 0.5 or 1/4294967296"),
        ("--difficulty", "1/0", "--difficulty: '1/0' is not like"),
        ("--fee-bps", "20000", "a fee of 20000 basis points is not between 0 and 10000"),
    ],
)
def test_what_has_no_price_is_told_by_its_option(option: str, value: str, words: str) -> None:
    asked = {"--nbits": "1d00ffff", "--height": "1", "--difficulty": "1", "--shares": "1", "--fee-bps": "0"}
    arguments = [word for pair in (asked | {option: value}).items() for word in pair]
    ran = CliRunner().invoke(app, ["rate", "quote", *arguments])
    assert ran.exit_code == 2
    assert words in ran.output
