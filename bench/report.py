"""The report: what parts have measured, each when it was run last, as one file with pictures beside it.

bench/results/NAME.json is a part's result with the stamp of its run; report.md is made of all of them. Ratios
come first. Must not know: how anything is measured.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from bench.figures import FIGURES
from bench.part import table
from bench.parts import PARTS
from bench.stamp import Stamp
from pool.whole_file import write_whole

RESULTS: Final = Path(__file__).parent / "results"
REPORT: Final = "report.md"


class Ran(msgspec.Struct, frozen=True):
    """A part's last run."""

    stamp: Stamp
    result: dict[str, Any]


def keep(name: str, ran: Ran, directory: Path = RESULTS) -> None:
    """Of a part that has just been run."""
    directory.mkdir(exist_ok=True)
    write_whole(directory / f"{name}.json", msgspec.json.format(msgspec.json.encode(ran), indent=1) + b"\n")


def kept(directory: Path = RESULTS) -> dict[str, Ran]:
    """Of each part that has been run, in the report's order."""
    files = {name: directory / f"{name}.json" for name in PARTS}
    return {
        name: msgspec.json.decode(file.read_bytes(), type=Ran)
        for name, file in files.items()
        if file.exists()
    }


def write(directory: Path = RESULTS) -> Path:
    """The report of what is kept there."""
    ran_before = kept(directory)
    lines = ["# Benchmark\n", *_head(ran_before)]
    for name, ran in ran_before.items():
        section = PARTS[name].section(ran.result)
        lines += [
            f"\n## {PARTS[name].title}\n",
            f"`python -m bench {name}`, {ran.stamp.words()}.\n",
            *section.lines,
        ]
        for file, drawn in section.pictures.items():
            write_whole(directory / file, drawn.encode())
    if left := [name for name in PARTS if name not in ran_before]:
        lines.append(f"\nNot run yet: `python -m bench {' '.join(left)}`.")
    write_whole(directory / REPORT, ("\n".join(lines) + "\n").encode())
    return directory / REPORT


def _head(ran: dict[str, Ran]) -> list[str]:
    rows, limits = [], []
    for figure in FIGURES:
        measured = figure.measured(ran[figure.part].result) if figure.part in ran else None
        answer = "-" if measured is None else "yes" if measured.reached else "**no**"
        words = "not run" if measured is None else measured.words
        rows.append([figure.what, figure.promised, words, answer])
        if measured is not None and not measured.reached:
            limits.append(f"* **{figure.what}**: {figure.limits}")
    return [
        "By `make bench`. Compare ratios of one run, never times of two machines: each section says when, on "
        "what and beside how much else it was measured. Echo is a C++ server that answers each line with a "
        "send of its own, the price of the kernel.\n",
        *table(("what", "promised", "measured", "reached"), rows),
        *(("\nWhat limits those that are not reached, and what would lift it:\n", *limits) if limits else ()),
    ]


if __name__ == "__main__":  # of what is kept, where only its words have changed
    print(f"written to {write()}")
