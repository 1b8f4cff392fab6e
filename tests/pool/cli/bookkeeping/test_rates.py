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
