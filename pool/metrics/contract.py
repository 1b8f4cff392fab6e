"""The metrics by name: what each says, of what kind it is, and its labels. docs/metrics.md is this table.

A name that is here stays, and means the same: dashboards and alerts that we have never seen use it. Base
units (seconds, satoshis, hashes per second), no label that a stranger chooses, and each label has a bound.

Must not know: where a figure is from.
"""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from stratum.histogram import Histogram

Kind = Literal["counter", "gauge", "histogram"]


class Described(msgspec.Struct, frozen=True):
    """One metric."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


def _named(text: str) -> tuple[Described, ...]:
    """A metric a line: kind, name{labels}, what it says."""
    described = []
    for line in text.strip().splitlines():
        kind, name, words = line.split(maxsplit=2)
        name, _, labels = name.rstrip("}").partition("{")
        described.append(msgspec.convert((name, kind, labels.split(",") if labels else [], words), _Row))
    return tuple(Described(it.name, it.kind, it.labels, it.help) for it in described)


class _Row(msgspec.Struct, array_like=True):
    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


METRICS: Final = _named("""
gauge     angara_build_info{version,hash_backend}             1; the version, and how this processor hashes.
gauge     angara_ready{condition}                             1 where a condition of /readyz holds.
gauge     angara_processes{state}                             Processes that are to serve miners, by whether they do: serving, away.
counter   angara_process_deaths_total                         How often one of them died, or was killed because it did not answer.
gauge     angara_sessions{standing}                           Miners' connections by what they have shown: waiting, half-open, fresh, idle, mining.
gauge     angara_firmware_sessions{firmware}                  Miners' connections by what their agent says they run; what we have no name for is other.
counter   angara_firmware_shares_total{firmware,verdict}      Shares of these, accepted or rejected, whether or not they are in the books.
gauge     angara_sv2_connections                              Connections that speak Stratum V2, of machines and of proxies.
gauge     angara_sv2_channels                                 Mining channels on them, each of which is one of the sessions above.
counter   angara_sv2_handshakes_total                         Handshakes of Stratum V2, each of which costs some tenths of a millisecond.
counter   angara_connections_ended_total{reason}              Miners' connections that were ended or refused, by the reason.
gauge     angara_web_connections                              Connections over HTTP.
counter   angara_web_connections_refused_total{reason}        Connections over HTTP for which there was no place.
counter   angara_shares_total{tenant,verdict}                 Shares by verdict: accepted, stale, duplicate, low, invalid, undelivered (good, and no upstream took them).
counter   angara_uncharged_shares_total{verdict}              Rejected shares that are in no books, by verdict: anybody can say any name.
counter   angara_refused_lines_total{kind}                    Lines that were no shares and were refused, or could not be read.
gauge     angara_hashrate_hashes_per_second                   Hashrate by good shares, average of five minutes.
gauge     angara_tenant_hashrate_hashes_per_second{tenant}    The same of a tenant.
gauge     angara_site_hashrate_hashes_per_second{site}        The same of a site.
gauge     angara_container_hashrate_hashes_per_second{tenant,container}  The same of a container.
gauge     angara_container_machines{tenant,container,state}   A container's machines: online, offline for five minutes, or unheard: of an edge that nothing is known of.
histogram angara_acknowledgement_seconds                      From a share's verdict to its answer's being written: what waiting for the commit costs it.
histogram angara_commit_seconds                               How long the journal took for a commit.
gauge     angara_commit_wait_seconds                          How long the commit under way has waited; 0 without one.
gauge     angara_journal_unfolded_batches                     Committed batches that are not in the minutes yet.
gauge     angara_journal_unfolded_age_seconds                 Age of the oldest of them.
histogram angara_fold_seconds                                 How long it took to bring what was committed into the minutes.
histogram angara_settlement_seconds                           How long it took to settle what was due.
histogram angara_block_distribution_seconds                   From new work on another block to its being written to all its miners.
gauge     angara_node_up{node}                                1 where a bitcoind answers and is fit to be mined on.
gauge     angara_node_current{node}                           1 for the one that is mined on.
gauge     angara_node_tip_height{node}                        Height of its best block.
histogram angara_node_template_seconds{node}                  How long getblocktemplate took.
gauge     angara_template_age_seconds                         Age of the last template.
gauge     angara_template_height                              Height of the block that it is for.
gauge     angara_upstream_up{upstream,order}                  1 where a channel on an upstream is served; order is empty where a tenant's machines mine.
gauge     angara_upstream_diverted{upstream,order}            1 while its miners are on the fallback.
gauge     angara_upstream_sessions{upstream,order}            Miners on it.
gauge     angara_upstream_unanswered_shares{upstream,order}   Shares that it was sent and has not answered.
counter   angara_upstream_shares_total{upstream,verdict,reason}  Forwarded shares by what the upstream said: accepted, rejected (why, in one of few words), unanswered.
gauge     angara_unresolved_shares                            Forwarded shares in the books that nobody has answered.
gauge     angara_upstream_kept_blocks                         Previous blocks of upstreams whose credited shares the books still know: a handful, or all since an edge that is held, silent or of a version before has said that it left them.
counter   angara_moves_total{kind}                            Machines that were moved to another channel, by how: job, set_extranonce, reconnect.
gauge     angara_order_sold_hashes_per_second{order}          What an order that runs has bought.
gauge     angara_order_delivered_hashes_per_second{order}     What its machines deliver, as measured last.
gauge     angara_order_short_hashes_per_second{order}         What is missing; 0 within its tolerance.
gauge     angara_order_machines{order}                        Machines that are assigned to it.
gauge     angara_blocks{status}                               Blocks of ours by what became of them: found, pending, matured, orphaned.
gauge     angara_account_satoshis{account}                    Balance of an account of the pool: owed or earned is positive, held or spent negative.
gauge     angara_tenant_satoshis{tenant,account}              What a tenant is owed: payable, and in_payout on its way.
gauge     angara_receivable_satoshis{age}                     What buyers of orders owe by how long it is due: not-invoiced, open, due, overdue-week, overdue-month, overdue-longer; and advance, paid and not owed.
gauge     angara_unpaid_orders{state}                         Orders whose invoices are overdue, or that stopped for it, by that state.
gauge     angara_nats_connected                               1 where the hub is connected to a NATS server; of a hub alone, as all of edges.
counter   angara_nats_dropped_messages_total                  Messages that came faster than the hub read them: what is missing is asked for again.
gauge     angara_edge_heard_age_seconds{edge}                 How long ago an edge at another site was heard of.
gauge     angara_edge_missing_age_seconds{edge}               What it had so long ago is here, by the hub's clock.
gauge     angara_edge_moment_age_seconds{edge}                The same by the edge's clock: the books wait for it so long, a quarter of an hour at most.
gauge     angara_edge_unbooked_age_seconds{edge}              Age of the oldest share of it that is here and not in the books, at most; 0 without one.
gauge     angara_edge_unbooked_records{edge}                  Records of its journal that are here and not in the books.
gauge     angara_edge_unbooked_bytes{edge}                    Bytes of files that have such records.
gauge     angara_edge_held{edge}                              1 where the books take nothing of it until somebody has looked.
gauge     angara_edge_waits{edge}                             1 where what came of it is not taken yet, or cannot be written.
gauge     angara_edge_beyond{edge}                            1 where it sent more work than its machines can do, within an hour.
gauge     angara_edge_machines{edge,state}                    Machines whose last good share within a day came by it: mining, or offline for five minutes as far as is known.
gauge     angara_power_watts                                   What all machines draw, by accepted work of five minutes or by meters; nothing of unknown ones.
gauge     angara_power_unknown_machines                        Machines that mine and of which nobody has said what they draw.
gauge     angara_site_power_watts{site,basis}                  The same of a site; basis is meter, or work.
gauge     angara_site_power_limit_watts{site}                  What a site may draw at most, where that has a limit now.
gauge     angara_container_power_watts{tenant,container,basis}  What a container draws, likewise.
gauge     angara_container_joules_per_terahash{tenant,container}  What a terahash takes there: W by TH/s.
gauge     angara_container_power_limit_watts{tenant,container}  What a container may draw at most, where that has a limit now.
gauge     angara_meter_watts{meter}                            What a meter reads; nothing where it has read nothing for five minutes.
gauge     angara_meter_believed{meter}                         1 where that counts; 0 where it cannot be right, and accepted work counts.
gauge     angara_power_events{site}                            Power events that are under way, by the site that they are of; (all): of all sites.
gauge     angara_power_event_asked_watts{site}                 How much less those ask for that are not being restored.
gauge     angara_power_event_shed_watts{site}                  How much of that is off, proven by work.
gauge     angara_power_event_short_watts{site}                 How much is missing although the ramp is over.
gauge     angara_power_event_machines{site,state}              Machines of events by state: pending, asked, confirmed, refused, drifted, waking, restored, lost, released.
gauge     angara_power_events_failed                           1 where the last look at events did not come to its end: who is off stays off meanwhile.
gauge     angara_machines_held{state}                          Machines as who holds them off says: off, limited, resuming, given-up after a week.
gauge     angara_signal_heard_age_seconds{signal}              How long ago a signal was heard of that may ask for events; since the start where it never was.
gauge     angara_signal_silent{signal}                         1 where that is longer than it may be.
counter   angara_signal_taken_total{signal}                    What it asked for, and there is an event of.
counter   angara_signal_refused_total{signal}                  What it said and nothing was done by.
gauge     angara_books_age_seconds                            Age of the figures of the database (orders, blocks, balances): a minute, and more while it does not answer.
""")  # noqa: E501 - a table, one line a name
OTHERS: Final = "(others)"  # no name of ours has a bracket: what is beyond a bound, summed up


class Page:
    """One answer to a scrape, as it is filled. All names are there, also those of which there is nothing."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {it.name: _family(it) for it in METRICS}

    def add(self, name: str, value: float, *labels: str) -> None:
        """A counter's or a gauge's value; of the labels as the contract has them."""
        family = self._families[name]
        assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)
        family.add_metric(labels, value)

    def add_histogram(self, name: str, histogram: Histogram, *labels: str) -> None:
        family = self._families[name]
        assert isinstance(family, HistogramMetricFamily)
        total, buckets = 0, []
        bounds = (*map(str, histogram.bounds_s), "+Inf")
        for bound, count in zip(bounds, histogram.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        family.add_metric(labels, buckets, histogram.sum_s)

    def collect(self) -> Iterator[Metric]:
        """As prometheus-client asks a collector."""
        yield from self._families.values()


def _family(it: Described) -> Metric:
    if it.kind == "counter":
        return CounterMetricFamily(it.name, it.help, labels=it.labels)
    if it.kind == "gauge":
        return GaugeMetricFamily(it.name, it.help, labels=it.labels)
    return HistogramMetricFamily(it.name, it.help, labels=it.labels)
