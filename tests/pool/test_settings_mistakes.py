"""A settings file that is refused is refused in words of the file, whatever is wrong in it."""

import re
from typing import Any

import msgspec
import pytest

from pool.settings_mistakes import in_words
from pool.settings_tables import File, all_settings

POOL = {"network": "regtest", "data_dir": "d", "payout_address": "a"}
GOOD: dict[str, Any] = {"pool": POOL, "node": [{"name": "n", "url": "http://h:1"}]}
# TOML's kinds, and lists of them.
VALUES: tuple[Any, ...] = (5, -5, 10**30, 2.5, "x", True, [], [5], ["x"], [{}], [{"x": 1}], {}, {"x": 1})


def said_of(tables: dict[str, Any]) -> str | None:
    raw = GOOD | tables
    try:
        msgspec.convert(raw, File)
    except msgspec.ValidationError as error:
        return in_words(error, raw)
    return None


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"stratum": {"listen": "h:1"}}, 'stratum.listen: is to be a list, [...], and is text, "..."'),
        ({"stratum": {"listen": [3333]}}, 'stratum.listen[0]: is to be text, "...", and is a whole number'),
        (
            {"stratum": {"difficulty_min": True}},
            "stratum.difficulty_min: is to be a number, and is true or false",
        ),
        ({"stratum": {"processes": 2.0}}, "a whole number, and is written with a point or an exponent"),
        ({"stratum": {"processes": 17}}, "stratum.processes: 17 is not within 1 to 16"),
        (
            {"stratum": {"difficulty_strat": 1}},
            "stratum.difficulty_strat: there is no such setting, there are: ",
        ),
        ({"webb": {}}, "webb: there is no such setting, there are: pool, node, stratum, web,"),
        ({"node": GOOD["node"][0]}, "node: is to be [[node]], once for each, and is a table"),
        ({"node": [{"name": "n"}]}, "node[0].url: has to be said"),
        ({"pool": POOL | {"data_dir": 5}}, "pool.data_dir: is to be text"),
        ({"messages": {"to": [{"lest": "info"}]}}, "messages.to[0].lest: there is no such setting"),
        (
            {"messages": {"to": [{"url": "u", "least": "wrning"}]}},
            "messages.to[0].least: 'wrning' is none of critical, info, warning",
        ),
    ],
)
def test_what_is_wrong_is_told_with_what_is_allowed(tables: dict[str, Any], words: str) -> None:
    said = said_of(tables)
    assert said is not None
    assert words in said


@pytest.mark.parametrize(
    "name", ["a` - at `$.pool", "a` - at `$.nowhere", "a` - at `$.pool.tag", "", "\n\x1b"]
)
def test_the_name_of_a_setting_may_be_anything(name: str) -> None:
    assert said_of({name: 1}) is not None


def test_no_value_of_any_setting_is_told_in_a_programs_words() -> None:
    for name in {it.name for it in all_settings()}:
        *tables, last = re.sub(r"\[.*?\]", "", name).split(".")
        for value in VALUES:
            inner: dict[str, Any] = {last: value}
            for table in reversed(tables):
                inner = {table: [inner] if table == "node" else inner}
            said = said_of(inner)
            assert said is None or not re.search(r"\$\.|Expected|Object|`", said), (name, value, said)
