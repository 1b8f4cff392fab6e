"""Each bug of edges and hub that is planted is found, and for what it is, by one of the first worlds in which
something goes wrong that it would do harm by."""

from typing import Final

import pytest

from tests.simulation.faults import Kinds
from tests.simulation.planted_bugs import planted
from tests.simulation.planted_site_bugs import SITE_VERDICTS, SITES_PLANTED
from tests.simulation.site_faults import SITE_KINDS, SiteFaults
from tests.simulation.sites_world import SITES, play_sites

FIRST_SEEDS = 12
# What it was found by last is played first. Worlds change with what is played in them: then others find it.
FOUND_BY: Final = {
    "trim_behind_what_a_server_has_read": 6,
    "take_a_record_twice": 3,
    "book_to_another_machine_of_the_tenant": 1,
    "have_nobody_find_a_block_before_the_journal_names_him": 2,
}
NATS_FORGETS: Final = (SiteFaults.stores_are_emptied, 1), (SiteFaults.messages_are_lost, 1)
MOVES: Final = (SiteFaults.machines_go_to_their_other_edge, 2)
HARMED_BY: Final[dict[str, Kinds]] = {
    "trim_behind_what_a_server_has_read": (
        (SiteFaults.stores_are_emptied, 1),
        (SiteFaults.messages_are_lost, 1),
    ),
    "take_a_record_twice": ((SiteFaults.hub_is_killed_at_a_commit, 1), MOVES),
    "believe_any_epoch": ((SiteFaults.edge_is_put_back_while_its_messages_are_on_their_way, 1),),
}


@pytest.mark.simulation
@pytest.mark.parametrize("name", SITES_PLANTED)
def test_a_planted_bug_of_sites_is_found(name: str) -> None:
    found: list[str] = []
    for seed in (FOUND_BY.get(name, 0), *range(FIRST_SEEDS)):
        with planted(name):
            found += [it.verdict for it in play_sites(seed, SITES, HARMED_BY.get(name, SITE_KINDS)).found]
        if SITE_VERDICTS[name] in found:
            return
    pytest.fail(f"{name} was found as {sorted(set(found)) or 'nothing'}")
