// What is drawn now, by whom, and of what that is known; and what was asked of machines for the grid's sake.

import { element, fill } from "./elements.js";
import { NOTHING, ago, duration, grouped, hashrate, percentOfBps } from "./figures.js";
import { refreshed } from "./refresh.js";
import { ask, commands } from "./server.js";
import { Table } from "./table.js";

export async function show(place, context) {
  const table = await commands();
  const sees = (command) => table.has(command);
  const sites = drawn("Sites", { title: "Site", show: (it) => it.site ?? "not said where", by: (it) => it.site ?? "" }, true);
  const tenants = drawn("Tenants", { title: "Tenant", show: (it) => it.tenant, by: (it) => it.tenant }, false);
  const containers = drawn("Containers", { title: "Container", show: containerOf, by: (it) => [it.tenant, it.container].join(".") }, true);
  const meters = new Table(
    "Meters",
    [
      { title: "Meter", show: (it) => element("b", {}, it.meter), by: (it) => it.meter },
      { title: "Of", show: (it) => it.places.join(", ") },
      { title: "Reads", number: true, show: (it) => kilowatts(it.watts), by: (it) => it.watts },
      { title: "Machines behind it, by their work", number: true, show: (it) => kilowatts(it.work_watts), by: (it) => it.work_watts },
      { title: "Read", show: (it) => (it.age_s === null ? NOTHING : `${duration(it.age_s)} ago`), by: (it) => it.age_s },
      { title: "Believed", show: (it) => (it.believed ? "yes" : element("span", { class: "trouble" }, "no")), by: (it) => it.believed },
    ],
    "There is no meter: power is known from accepted work alone.",
  );
  const suspects = new Table(
    "Draws for nothing",
    [
      { title: "What", show: (it) => element("b", {}, it.subject), by: (it) => it.subject },
      { title: "Kind", show: (it) => it.kind, by: (it) => it.kind },
      { title: "Draws", number: true, show: (it) => kilowatts(it.watts), by: (it) => it.watts },
      { title: "In words", show: (it) => it.words },
    ],
    "Nobody is seen who draws and does not mine, or mines and is not paid for.",
  );
  const signals = new Table(
    "Signals",
    [
      { title: "Source", show: (it) => element("b", {}, it.source), by: (it) => it.source },
      { title: "Where", show: (it) => it.where },
      { title: "State", show: (it) => (it.state === "good" ? it.state : element("span", { class: "trouble" }, it.state)), by: (it) => it.state },
      { title: "Heard", show: (it) => ago(it.heard_at_s), by: (it) => it.heard_at_s },
      { title: "Asked", number: true, show: (it) => grouped(it.asked), by: (it) => it.asked },
      { title: "Refused", number: true, show: (it) => grouped(it.refused), by: (it) => it.refused },
      { title: "Refused last", show: (it) => (it.words ? [ago(it.refused_at_s), `: ${it.words}`] : NOTHING) },
    ],
    "Nobody but persons may ask machines to pause.",
  );
  const parts = [sites, tenants, containers, meters].map((it) => it.element);
  const load = async () => {
    const now = await ask("power.now", {});
    sites.show(now.sites);
    tenants.show(now.tenants);
    containers.show(now.containers);
    meters.show(now.meters);
    if (mayHere("power.suspects")) suspects.show(await ask("power.suspects", {}));
    if (mayHere("power.signals")) signals.show(await ask("power.signals", {}));
  };
  const operates = context.me.tenant === null || context.me.tenant === undefined;
  const mayHere = (command) => operates && sees(command);
  await refreshed(context, load);
  fill(
    place,
    element("h1", {}, "Power"),
    operates && [element("h2", {}, "Sites"), parts[0]],
    element("h2", {}, operates ? "Tenants" : "In all"),
    parts[1],
    element("h2", {}, "Containers"),
    parts[2],
    operates && [element("h2", {}, "Meters"), parts[3]],
    mayHere("power.suspects") && [element("h2", {}, "Draws for nothing"), suspects.element],
    mayHere("power.signals") && [element("h2", {}, "Signals"), signals.element],
  );
}

function containerOf(it) {
  return [it.tenant, it.container].filter(Boolean).join(".");
}

/** Of sites, tenants and containers: the same figures; `limited`: with what they may draw. */
function drawn(title, first, limited) {
  const limits = [{ title: "Limit", number: true, show: limit, by: (it) => it.limit_watts }];
  return new Table(
    title,
    [
      first,
      { title: "Draws", number: true, show: (it) => (isKnown(it) ? kilowatts(it.watts) : NOTHING), by: (it) => it.watts },
      { title: "Known by", show: basis, by: (it) => it.basis },
      ...(limited ? limits : []),
      { title: "J/TH", number: true, show: (it) => (it.mj_per_th ? (it.mj_per_th / 1000).toFixed(1) : NOTHING), by: (it) => it.mj_per_th },
      { title: "Hashrate, 5 min", number: true, show: (it) => hashrate(it.hps), by: (it) => it.hps },
      { title: "Mine", number: true, show: (it) => grouped(it.mining), by: (it) => it.mining },
      { title: "Of unknown make", number: true, show: (it) => grouped(it.unknown_machines), by: (it) => it.unknown_machines },
    ],
    "Nothing is known yet.",
  );
}

/** Of machines whose model nobody has said nothing is. */
function isKnown(it) {
  return it.basis === "meter" || it.mining > it.unknown_machines;
}

function basis(it) {
  return isKnown(it) ? `${it.basis}, ± ${percentOfBps(it.error_bps)}` : NOTHING;
}

function limit(it) {
  if (it.limit_watts === null) return NOTHING;
  return it.over_limit ? element("span", { class: "trouble" }, `over ${kilowatts(it.limit_watts)}`) : kilowatts(it.limit_watts);
}

/** 3,250.0 kW, of W. */
export function kilowatts(watts) {
  return watts === null || watts === undefined ? NOTHING : `${(watts / 1000).toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 })} kW`;
}
