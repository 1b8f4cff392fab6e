"""Figures go from one process to another as they are, and add up to what one would say that served all."""

import random
from collections.abc import Sequence

import msgspec

from pool.edges.edge import MachineConnection, MachineMet
from pool.edges.edges import CONNECTIONS_MAX, merged_machine
from pool.edges.figures import EdgeFigures, NodeFigures, merged
from stratum.histogram import BOUNDS_S, Histogram
from stratum.miners.decisions import KEPT_MAX, Decision
from stratum.miners.firmware import FAMILIES, Family
from stratum.upstream.shares import RejectReason, SubmitVerdict


def some_histogram(rng: random.Random) -> Histogram:
    found = Histogram()
    for _ in range(50):
        found.add(rng.expovariate(1.0), rng.randrange(1, 9))
    return found


def some_figures(seed: int) -> EdgeFigures:
    rng = random.Random(seed)
    number = rng.randrange
    accepted, rejected = SubmitVerdict.ACCEPTED, SubmitVerdict.REJECTED
    return EdgeFigures(
        sessions={"mining": number(9_999), "half-open": 0},
        ended={"left": number(99), f"of edge {seed}": number(9)},
        moved={"job": number(99)},
        firmware={it: Family(number(9), number(999), number(99)) for it in FAMILIES},
        uncharged=[number(99) for _ in range(12)],
        unresolved=number(99),
        answers={(1, accepted, None): number(99), (1, rejected, RejectReason.STALE): number(9)},
        acknowledgements=some_histogram(rng),
        commits=some_histogram(rng),
        distributions=some_histogram(rng),
        nodes=(
            NodeFigures(
                name="first",
                up=True,
                reason="",
                current=bool(seed % 2),
                tip_height=number(900_000),
                template_times=some_histogram(rng),
            ),
        ),
        without_node_s=None,
        template_age_s=rng.uniform(0, 60),
        template_height=number(900_000),
        commit_age_s=rng.uniform(0, 1),
        journal_failed=False,
        unfolded=number(99),
        unfolded_age_s=rng.uniform(0, 60),
        refuses=None,
        listeners=2,
    )


ONE, TWO, THREE = (some_figures(seed) for seed in (1, 2, 3))
other = msgspec.structs.replace


def test_they_are_the_same_when_they_have_gone_from_one_process_to_another() -> None:
    packed = msgspec.msgpack.encode(ONE)
    assert msgspec.msgpack.decode(packed, type=EdgeFigures) == ONE
    assert len(packed) < 8_192


def test_those_of_one_are_its_own() -> None:
    assert merged([ONE]) == ONE


def test_counts_add_up() -> None:
    both = merged([ONE, TWO])
    assert both.sessions == {"mining": ONE.sessions["mining"] + TWO.sessions["mining"], "half-open": 0}
    assert both.ended["of edge 1"] == ONE.ended["of edge 1"]
    assert both.ended["left"] == ONE.ended["left"] + TWO.ended["left"]
    for name, family in both.firmware.items():
        counted = [msgspec.structs.astuple(it.firmware[name]) for it in (ONE, TWO)]
        assert msgspec.structs.astuple(family) == tuple(map(sum, zip(*counted, strict=True)))
    assert both.uncharged == [a + b for a, b in zip(ONE.uncharged, TWO.uncharged, strict=True)]
    assert both.answers == {it: ONE.answers[it] + TWO.answers[it] for it in ONE.answers}
    assert (both.unresolved, both.unfolded) == (ONE.unresolved + TWO.unresolved, ONE.unfolded + TWO.unfolded)


def test_it_makes_no_difference_who_is_added_to_whom_first() -> None:
    """Exactly, sums of seconds too: they are counted in integers."""
    assert merged([merged([ONE, TWO]), THREE]) == merged([ONE, merged([TWO, THREE])])
    everything = merged([ONE, TWO, THREE])
    assert merged([THREE, TWO, ONE]).acknowledgements == everything.acknowledgements


def test_a_histogram_of_two_is_what_one_counted_that_was_told_everything() -> None:
    rng, whole, parts = random.Random(1), Histogram(), (Histogram(), Histogram())
    for at in range(1_000):
        took_s, count = rng.choice((*BOUNDS_S, rng.expovariate(1.0))), rng.randrange(1, 4)
        whole.add(took_s, count)
        parts[at % 2].add(took_s, count)
    assert parts[0].plus(parts[1]) == whole
    copy = whole.plus()
    whole.add(1.0)
    assert sum(copy.counts) == sum(whole.counts) - 1


def test_of_what_is_a_state_the_worst_counts() -> None:
    good = ONE
    bad = other(
        TWO,
        without_node_s=9.0,
        template_age_s=None,
        commit_age_s=7.0,
        journal_failed=True,
        refuses="no bitcoin node answers",
        listeners=0,
    )
    for several in ([good, bad], [bad, good]):
        it = merged(several)
        assert (it.without_node_s, it.template_age_s, it.commit_age_s) == (9.0, None, 7.0)
        assert (it.journal_failed, it.refuses, it.listeners) == (True, bad.refuses, 0)
    assert merged([ONE, TWO]).template_age_s == max(ONE.template_age_s or 0, TWO.template_age_s or 0)
    assert merged([ONE, TWO]).template_height == min(ONE.template_height or 0, TWO.template_height or 0)


def test_a_node_is_up_where_all_reach_it_and_current_where_one_mines_on_it() -> None:
    (first,) = ONE.nodes
    away = other(first, up=False, reason="no answer", current=False, tip_height=None)
    (node,) = merged([ONE, other(TWO, nodes=(away,))]).nodes
    assert (node.up, node.reason, node.current) == (False, "no answer", True)
    assert node.tip_height == first.tip_height
    assert sum(node.template_times.counts) == 2 * sum(first.template_times.counts)
    names = [it.name for it in merged([ONE, other(TWO, nodes=(other(first, name="second"),))]).nodes]
    assert names == ["first", "second"]


def met(edge: int, ages: Sequence[int]) -> MachineMet:
    connection = MachineConnection(
        address=f"127.0.0.{edge}", state="mining", standing="mining", workers=1, channel=1, difficulty=1,
        leaving=False,
    )  # fmt: skip
    return MachineMet(connections=[connection], why=[Decision(it, "moved", "", None) for it in ages])


def test_of_a_machine_all_connections_are_told_and_the_newest_that_was_decided() -> None:
    both = merged_machine([met(1, (9, 5, 1)), met(2, (7, 6))])
    assert [it.address for it in both.connections] == ["127.0.0.1", "127.0.0.2"]
    assert [it.at_s for it in both.why] == [9, 7, 6, 5, 1]
    many = merged_machine([met(edge, range(KEPT_MAX, 0, -1)) for edge in range(CONNECTIONS_MAX + 1)])
    assert (len(many.connections), len(many.why)) == (CONNECTIONS_MAX, KEPT_MAX)
    stepped = met(1, (5, 9))  # a clock that steps
    assert merged_machine([stepped]) == stepped
