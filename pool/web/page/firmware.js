// What each firmware was seen to do, by what really happened: counted since the pool was started.

import { element, fill } from "./elements.js";
import { NOTHING, grouped, moment, percent } from "./figures.js";
import { refreshed } from "./refresh.js";
import { ask } from "./server.js";
import { Table } from "./table.js";

export async function show(place, context) {
  const since = element("p", { class: "quiet" });
  const count = (title, name) => ({ title, number: true, show: (it) => grouped(it[name]), by: (it) => it[name] });
  const table = new Table(
    "Firmware",
    [
      { title: "Firmware", show: (it) => element("span", { title: it.agent }, it.name), by: (it) => it.name },
      count("Here now", "here"),
      { title: "Sessions that mined", number: true, show: (it) => `${grouped(it.mined)} of ${grouped(it.sessions)}`, by: (it) => it.sessions },
      { title: "Shares rejected", number: true, show: (it) => `${grouped(it.rejected)} (${percent(it.rejected, it.accepted + it.rejected)})`, by: (it) => it.rejected / Math.max(1, it.accepted + it.rejected) },
      { title: "First requests", show: (it) => usual(it.orders) },
      { title: "Mask asked for, and rolled", show: (it) => [usual(it.masks), element("div", {}, it.rolled.toString(16).padStart(8, "0"))], by: (it) => it.rolled },
      count("Takes other extranonces", "extranonce"),
      count("Suggests a difficulty", "suggested"),
      { title: "Reconnects when asked", number: true, show: (it) => (it.reconnects ? `${grouped(it.obeyed)} of ${grouped(it.reconnects)}` : NOTHING), by: (it) => it.obeyed },
      { title: "Answers pings", number: true, show: (it) => (it.pings ? `${grouped(it.answers)} of ${grouped(it.pings)}` : NOTHING), by: (it) => it.answers },
      { title: "Lines refused, unreadable", number: true, show: (it) => `${grouped(it.refused)}, ${grouped(it.unreadable)}`, by: (it) => it.refused + it.unreadable },
    ],
    "Nobody has subscribed since the pool was started.",
  );
  const load = async () => {
    const rows = await ask("firmware.list");
    fill(since, "As machines say what they are; counted by session", rows.length > 0 && [" since ", moment(rows[0].counted_since_at_s)], ".");
    table.show(rows);
  };
  await refreshed(context, load);
  fill(place, element("h1", {}, "Firmware"), since, table.element);
}

/** What most of them did, and how many did otherwise. */
function usual(counts) {
  const [most, ...others] = Object.entries(counts).sort((a, b) => b[1] - a[1]);
  if (!most) return NOTHING;
  const rest = others.reduce((sum, [, it]) => sum + it, 0);
  return rest ? `${most[0]} (others: ${grouped(rest)})` : most[0];
}
