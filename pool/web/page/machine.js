// One machine: what it does, how it is connected, what was decided about it and why, and its lines as they
// pass, for who may see them.

import { element, fill } from "./elements.js";
import { commandButton } from "./command_form.js";
import { facts } from "./facts.js";
import { NOTHING, ago, difficulty, grouped, hashrate, moment, percent, ths } from "./figures.js";
import { refreshed } from "./refresh.js";
import { RejectAccount } from "./rejects.js";
import { Refused, ask, look } from "./server.js";
import { STATES, stateSign } from "./states.js";
import { Trace } from "./trace.js";

export async function show(place, context, name) {
  const shown = element("div");
  const charts = element("div", { class: "charts" });
  const worker = await ask("worker.show", { name });
  const account = new RejectAccount({ worker: name });
  const load = async () => {
    const it = await look(`machine/${encodeURIComponent(name)}`, context.signal).catch(noHistory);
    const known = await ask("worker.show", { name });
    await account.load();
    fill(shown, current(known, it));
    if (it?.history) await drawn(charts, it, context.signal);
  };
  await refreshed(context, load);
  const trace = new Trace(context, name);
  fill(
    place,
    element("h1", {}, worker.name),
    element(
      "div",
      { class: "tools" },
      trace.button,
      commandButton(context, "power.reduce", "Have it draw less", { machine: name }, load),
      commandButton(context, "worker.remove", "Remove it", { name }, () => (location.hash = "#/workers")),
    ),
    shown,
    charts,
    element("h2", {}, "What became of its shares"),
    account.element,
    trace.element,
  );
}

function letterOf(word) {
  return Object.keys(STATES).find((it) => STATES[it].word === word);
}

function noHistory(error) {
  if (error instanceof Refused && [404, 405].includes(error.status)) return null;
  throw error;
}

function current(worker, machine) {
  const rejected = ["stale", "duplicate", "low", "invalid"].reduce((sum, it) => sum + (worker[it] ?? 0), 0);
  const all = (worker.accepted ?? 0) + rejected + (worker.undelivered ?? 0);
  return [
    facts(
      ["State", stateSign(letterOf(machine?.state) ?? (worker.offline ? "o" : "m"))],
      ["Hashrate, 5 min", hashrate(worker.hps_300s)],
      ["Hashrate, 24 h", hashrate(worker.hps_86400s)],
      ["Nameplate", machine?.nameplate_ths ? ths(machine.nameplate_ths) : undefined],
      ["Shares accepted", grouped(worker.accepted)],
      ["Rejected", all ? `${grouped(rejected)} (${percent(rejected, all)})` : NOTHING],
      ["stale, duplicate, low, invalid", all ? [worker.stale, worker.duplicate, worker.low, worker.invalid].map(grouped).join(", ") : undefined],
      ["Good, but taken by no upstream", worker.undelivered ? grouped(worker.undelivered) : undefined],
      ["Firmware, as it says", worker.agent ?? "nothing"],
      ["First seen", moment(worker.first_seen_at_s)],
      ["Last seen", worker.last_seen_at_s ? ago(worker.last_seen_at_s) : undefined],
    ),
    (machine?.connections ?? []).map((it, at) => [
      element("h2", {}, machine.connections.length > 1 ? `Connection ${at + 1}` : "Connection"),
      facts(...Object.entries(it).map(([key, value]) => [key.replace(/_at_s$/, "").replaceAll("_", " "), scalar(key, value)])),
    ]),
    machine?.why?.length
      ? [
          element("h2", {}, "Why"),
          element(
            "ul",
            { class: "why" },
            machine.why.map((it) => element("li", {}, moment(it.at_s), " ", element("b", {}, it.what.replaceAll("_", " ")), it.difficulty_log2 == null ? null : ` ${difficulty(2 ** it.difficulty_log2)}`, it.reason && `: ${it.reason}`)),
          ),
        ]
      : null,
  ];
}

function scalar(key, value) {
  if (value === null || value === undefined) return NOTHING;
  if (key.endsWith("_at_s")) return moment(value);
  if (key === "difficulty") return difficulty(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

async function drawn(charts, { history, nameplate_ths: nameplate }, signal) {
  const { chart } = await import("./chart.js"); // the library comes with it, and only for who looks at charts
  const { hps, rejected, difficulty_log2: log2 } = history;
  const atS = hps.map((_, at) => history.from_s + at * history.step_s);
  const rates = [{ title: "Hashrate", values: hps, colour: "--accent", show: hashrate }];
  if (nameplate) rates.push({ title: "Nameplate", values: atS.map(() => nameplate * 1e12), colour: "--second", show: hashrate, dash: [6, 4] });
  const parts = rejected.map((it) => it && 100 * it);
  const steps = log2.map((it) => (it === null ? null : 2 ** it));
  fill(
    charts,
    chart("Hashrate", atS, rates, signal),
    chart("Rejected, of its work", atS, [{ title: "Rejected", values: parts, colour: "--offline", show: (it) => `${it.toFixed(1)} %` }], signal),
    chart("Difficulty", atS, [{ title: "Difficulty", values: steps, colour: "--second", show: difficulty }], signal),
  );
}
