// What became of shares, on three legs: what was sent, what we judged, what upstreams said; all parts are of
// those sent.

import { element, fill } from "./elements.js";
import { grouped, moment, percent } from "./figures.js";
import { refreshed } from "./refresh.js";
import { ask } from "./server.js";
import { Table } from "./table.js";

const LEGS = [
  ["Judged here", "What the pool judged of them", ["judged", "not charged"]],
  ["Said by upstreams", "What was forwarded, and what upstreams said of it", ["upstream"]],
  ["Lines that were no shares", "Answered with an error, and not counted among the shares", ["no shares"]],
];

/** A page of its own, for a tenant or an upstream. */
export async function show(place, context, kind = "", name = "") {
  const account = new RejectAccount({ [kind]: name });
  await refreshed(context, () => account.load());
  fill(place, element("h1", {}, `Shares of ${name}`), account.element);
}

export class RejectAccount {
  /** `of` has a worker, a tenant or an upstream. */
  constructor(of) {
    this.of = of;
    this.words = element("p", { class: "quiet" });
    this.legs = element("div", { class: "legs" });
    this.since = element("input", { type: "date", id: "rejects-since", change: () => this.load().catch((error) => fill(this.words, error.message)) });
    this.element = element(
      "div",
      {},
      element("div", { class: "tools" }, element("label", { for: "rejects-since" }, "Since the beginning of (UTC) "), this.since),
      this.words,
      this.legs,
    );
  }

  async load() {
    const { since_at_s: sinceS, uncharged_since_at_s: unchargedS, sent, rows } = await ask("reject.show", { ...this.of, since: this.since.value || null });
    if (!this.since.value) this.since.value = new Date(sinceS * 1000).toISOString().slice(0, 10);
    fill(
      this.words,
      `${grouped(sent)} shares were sent since `,
      moment(sinceS),
      "; each part is of these.",
      unchargedS && [" What is in no books is known since ", moment(unchargedS), "."],
    );
    fill(
      this.legs,
      LEGS.map(([title, caption, legs]) => [title, caption, rows.filter((it) => legs.includes(it.leg))])
        .filter(([, , found]) => found.length)
        .map(([title, caption, found]) => element("section", {}, element("h3", {}, title), leg(caption, found, sent))),
    );
  }
}

function leg(caption, rows, sent) {
  const several = new Set(rows.map((it) => it.upstream)).size > 1;
  const table = new Table(
    caption,
    [
      { title: "What", show: (it) => words(it, several), by: (it) => it.what },
      { title: "Shares", number: true, show: (it) => grouped(it.shares), by: (it) => it.shares },
      ...(rows[0].leg === "no shares" ? [] : [{ title: "Of those sent", number: true, show: (it) => percent(it.shares, sent), by: (it) => it.shares }]),
    ],
    "Nothing.",
  );
  table.show(rows);
  return table.element;
}

function words({ leg: where, upstream, what }, several) {
  if (where === "not charged") return `${what}, charged to nobody`;
  return several ? `${upstream}: ${what}` : what;
}
