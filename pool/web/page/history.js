// A day of the pool, or of a tenant, in steps of five minutes: hashrate, and what part of the work was rejected.

import { element, fill } from "./elements.js";
import { chart } from "./chart.js";
import { hashrate } from "./figures.js";
import { refreshed } from "./refresh.js";
import { look } from "./server.js";

const ALL = ""; // no tenant is called so
const BESIDE_MAX = 5; // lines that can still be told apart
const LINES = [
  { colour: "--accent" },
  { colour: "--second" },
  { colour: "--mining", dash: [10, 4] },
  { colour: "--rejecting", dash: [4, 4] },
  { colour: "--offline", dash: [2, 4] },
];

export async function show(place, { signal, me }) {
  let day = null;
  const whose = element("select", { id: "whose", "aria-label": "Whose", change: () => draw() });
  const charts = element("div", { class: "charts" });

  const draw = () => {
    const atS = day.of[0].hps.map((_, at) => day.from_s + at * day.step_s);
    const { hps, rejected } = day.of.find((it) => it.name === whose.value) ?? day.of[0];
    const parts = rejected.map((it) => 100 * it);
    const largest = day.of.filter((it) => it.name !== ALL).toSorted((a, b) => (b.hps.at(-1) ?? 0) - (a.hps.at(-1) ?? 0));
    const beside = largest.slice(0, BESIDE_MAX).map((it, at) => ({ title: it.name, values: it.hps, show: hashrate, ...LINES[at] }));
    fill(
      charts,
      chart("Hashrate", atS, [{ title: "Hashrate", values: hps, colour: "--accent", show: hashrate }], signal),
      chart("Rejected, of the work", atS, [{ title: "Rejected", values: parts, colour: "--offline", show: (it) => `${it.toFixed(1)} %` }], signal),
      whose.value === ALL && beside.length > 1 && chart(largest.length > BESIDE_MAX ? `The ${BESIDE_MAX} largest tenants` : "Tenants", atS, beside, signal),
    );
  };
  const load = async () => {
    const { pool, rejected, tenants, ...steps } = await look("figures/history", signal);
    const of = pool ? [{ name: ALL, hps: pool, rejected }, ...tenants] : tenants;
    day = { ...steps, of: of.length ? of : [{ name: me.tenant, hps: [], rejected: [] }] };
    const chosen = whose.value;
    fill(whose, day.of.map((it) => element("option", { value: it.name }, it.name === ALL ? "All of the pool" : it.name)));
    whose.value = day.of.some((it) => it.name === chosen) ? chosen : day.of[0].name;
    if (!charts.contains(document.activeElement) && !charts.querySelector("details[open]")) draw();
  };
  await refreshed({ signal }, load);
  fill(
    place,
    element("h1", {}, "A day of hashrate"),
    element("div", { class: "tools" }, whose, element("span", { class: "quiet" }, "Averages of five minutes, of this run of the pool: what is paid comes from the books.")),
    charts,
  );
}
