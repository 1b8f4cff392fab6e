"""All parts of the benchmark by name, in the order of the report."""

from typing import Final

from bench.part import Part
from bench.parts import (
    block_out,
    books,
    command_line,
    engine,
    hub,
    kept_shares,
    latency,
    many_sites,
    memory,
    month,
    new_block,
    power,
    processes,
    proxy_path,
    rate_curve,
    rates,
    sites,
    sv2,
)

PARTS: Final[dict[str, Part]] = {
    "rates": rates.PART,
    "processes": processes.PART,
    "latency-16000": latency.part(16_000),
    "latency-5600": latency.part(5_600),
    "rate-curve": rate_curve.PART,
    "memory": memory.PART,
    "new-block": new_block.PART,
    "sv2": sv2.PART,
    "block-out": block_out.PART,
    "proxy": proxy_path.PART,
    "books": books.PART,
    "hub": hub.PART,
    "sites": sites.PART,
    "many-sites": many_sites.PART,
    "power": power.PART,
    "month": month.PART,
    "command-line": command_line.PART,
    "kept-shares": kept_shares.PART,
    "engine": engine.PART,
}
