"""Models of machines and what their nameplates say, out of models.csv beside this file.

What a nameplate says is public, so each line has the address of the page that it was read on, and when;
`error_bps` bounds J/TH both ways: the vendor's tolerances of hashrate and power together, at least. No vendor
publishes what a paused machine draws: `idle_watts` is for its control board and fans, and a guess that
whoever has measured one sets for his own.

Must not know: which machine is which model.
"""

import csv
from functools import cache
from importlib.resources import files
from typing import Final

import msgspec

from pool.fleet.registry_error import RegistryError

NOTHING_IS_GUESSED: Final = "angara power model list has those that are known"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One machine of it, as it is sold: at the wall, in the mode that it comes in."""

    model: str
    hashrate_ghs: int
    watts: int
    idle_watts: int
    error_bps: int
    source: str
    read_on: str

    @property
    def mj_per_th(self) -> int:
        return mj_per_th(self.watts, self.hashrate_ghs)


def mj_per_th(watts: int, hashrate_ghs: int) -> int:
    """To the nearest."""
    return (watts * 1_000_000 + hashrate_ghs // 2) // hashrate_ghs


@cache
def models() -> tuple[Model, ...]:
    """All of them, by maker and then as they came out."""
    text = files("pool.power.energy").joinpath("models.csv").read_text("utf-8")
    return tuple(msgspec.convert(list(csv.DictReader(text.splitlines())), list[Model], strict=False))


def find_model(name: str) -> Model:
    """By its name, however it is spelled in capitals and blanks; without its TH/s where there is one of that
    name. Raises RegistryError."""
    wanted = _plain(name)
    same = [it for it in models() if _plain(it.model) == wanted]
    if not same and wanted:
        same = [it for it in models() if _plain(it.model.rpartition(" ")[0]) == wanted]
    if len(same) == 1:
        return same[0]
    if same:
        raise RegistryError(f"there are several of {name!r:.80}: {', '.join(it.model for it in same)}")
    raise RegistryError(f"there is no model {name!r:.80}: {NOTHING_IS_GUESSED}")


def _plain(name: str) -> str:
    return "".join(name.lower().split())
