// Edges at other sites, of a hub: what each is, as the books have it, with what is known of it now, every five
// seconds.

import { element, fill } from "./elements.js";
import { commandButton } from "./command_form.js";
import { NOTHING, duration, grouped, moment, ths } from "./figures.js";
import { refreshed } from "./refresh.js";
import { ask, look } from "./server.js";
import { Table } from "./table.js";

const WORST_FIRST = ["held", "silent", "waits", "behind", "serves", "has not begun", "retired"];

export async function show(place, context) {
  const { live, signal } = context;
  const link = element("p", { role: "status" });
  let edges = [];
  let figures = live.figures ?? (await look("figures", signal));
  const table = new Table(
    "Edges at other sites",
    [
      { title: "Edge", show: named, by: (it) => it.name },
      { title: "State", show: state, by: (it) => WORST_FIRST.indexOf(it.state) },
      { title: "Machines", number: true, show: machines, by: (it) => it.now?.mining },
      { title: "Heard of", number: true, show: (it) => (it.now ? `${duration(it.now.silent_s)} ago` : NOTHING), by: (it) => it.now?.silent_s },
      { title: "Not here yet", number: true, show: missing, by: (it) => it.now?.missing_s },
      { title: "Not booked yet", number: true, show: unbooked, by: (it) => it.now?.unbooked },
      { title: "Change", show: (it) => (it.retired_at_s === null ? changes(it) : "") },
    ],
    "There is no edge at another site.",
  );
  const changes = (it) =>
    element(
      "div",
      { class: "buttons" },
      it.state === "held" ? commandButton(context, "edge.release", "Take it again", { name: it.name }, load) : null,
      commandButton(context, "edge.set", "Change", { name: it.name }, load),
      commandButton(context, "edge.retire", "Retire", { name: it.name }, load),
    );
  const draw = () => {
    fill(link, linked(figures?.link));
    const now = new Map((figures?.edges ?? []).map((it) => [it.name, it]));
    table.show(edges.map((it) => ({ ...it, now: now.get(it.name), state: stateOf(it, now.get(it.name)) })));
  };
  const load = async () => {
    edges = await ask("edge.list");
    draw();
  };
  await refreshed(context, load);
  live.addEventListener(
    "figures",
    ({ detail }) => {
      figures = detail;
      draw();
    },
    { signal },
  );
  fill(
    place,
    element("h1", {}, "Edges at other sites"),
    link,
    element("div", { class: "tools" }, commandButton(context, "edge.add", "Add an edge", {}, load)),
    table.element,
  );
}

function stateOf(it, now) {
  if (it.retired_at_s !== null) return "retired";
  if (it.writer === null) return "has not begun";
  return now?.state ?? (it.held === null ? "serves" : "held");
}

/** In words; what somebody has to see to looks like it. */
function state(it) {
  const trouble = (...words) => element("div", { class: "trouble" }, words);
  const said = {
    held: () => trouble("held: ", it.now?.why ?? it.held),
    silent: () => trouble(`silent for ${duration(it.now.silent_s)}`),
    waits: () => trouble("waits: ", it.now.why),
    behind: () => trouble("behind"),
    retired: () => ["retired ", moment(it.retired_at_s)],
  };
  const beyond = it.now && it.now.beyond_s !== null ? trouble(`more work than its machines can do, ${duration(it.now.beyond_s)} ago`) : null;
  return [said[it.state]?.() ?? it.state, beyond];
}

function quiet(...words) {
  return element("div", { class: "quiet" }, words);
}

/** With whom it counts for, and who it is now. */
function named(it) {
  const runs = it.host === null ? null : quiet(`${it.process} on ${it.host}`);
  return [element("b", {}, it.name), quiet([...it.tenants, ...it.containers].join(", ")), runs];
}

function machines(it) {
  const mine = it.now ? element("div", {}, `${grouped(it.now.mining)} of ${grouped(it.now.machines)} mine`) : NOTHING;
  return [mine, it.ths === null ? null : quiet(`nameplate ${ths(it.ths)}`)];
}

/** Nothing of before that is missing. */
function missing(it) {
  return it.now ? `the last ${duration(it.now.missing_s)}` : NOTHING;
}

function unbooked(it) {
  if (!it.now) return NOTHING;
  if (!it.now.unbooked) return "nothing";
  const bytes = it.now.unbooked_bytes >= 1 << 20 ? `, ${grouped(Math.round(it.now.unbooked_bytes / (1 << 20)))} MiB` : "";
  return [element("div", {}, `${grouped(it.now.unbooked)} records${bytes}`), quiet(`of the last ${duration(it.now.unbooked_s)}`)];
}

function linked(it) {
  if (!it) return "";
  const dropped = it.dropped ? `; ${grouped(it.dropped)} messages came faster than they were read` : "";
  if (it.connected) return `Connected to ${it.url} for ${duration(it.since_s)}${dropped}.`;
  return element("span", { class: "trouble" }, `Connected to no NATS server for ${duration(it.since_s)}: ${it.error || "none answers"}${dropped}.`);
}
