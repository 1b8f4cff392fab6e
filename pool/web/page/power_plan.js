// What a curtailment would do, shown before it is asked for: nobody presses a button for what he has not seen.

import { element } from "./elements.js";
import { facts } from "./facts.js";
import { grouped, hashrate, kilowatts, percentOfBps } from "./figures.js";
import { ask } from "./server.js";
import { Table } from "./table.js";

const ASKED = ["target", "target_value", "site", "ramp_s"]; // of a curtailment, what its plan depends on
const ALIKE = 0.02; // machines and watts come and go by the minute; orders do not
const NAMED_MAX = 20; // of what is exempt

/** For commandButton. */
export const powerPlan = { ask: planOf, show: shown, alike };

async function planOf(parameters) {
  const asked = Object.fromEntries(Object.entries(parameters).filter(([name]) => ASKED.includes(name)));
  const [plan, exempt, terms, limits] = await Promise.all([
    ask("power.plan", asked),
    ask("power.exemptions", { limit: NAMED_MAX + 1 }),
    ask("power.terms"),
    ask("limit.list"),
  ]);
  const here = (it) => it.state === "in-force" && (!plan.site || it.site === plan.site);
  return { plan, exempt, terms, limits: limits.filter(here), dry: parameters.dry_run === true };
}

function alike(one, other) {
  const near = (name) => Math.abs(one.plan[name] - other.plan[name]) <= ALIKE * Math.max(one.plan[name], other.plan[name]);
  const orders = (it) => it.plan.orders_short.map((order) => order.order).join();
  const rest = (it) => JSON.stringify([it.exempt, it.terms, it.limits, it.plan.limit_watts]);
  return ["machines", "shed_watts", "before_watts"].every(near) && orders(one) === orders(other) && rest(one) === rest(other);
}

function shown({ plan, exempt, terms, limits, dry }) {
  const last = Math.max(0, ...plan.batches.map((it) => it.after_s));
  const losses = new Table(
    "What tenants do not mine",
    [
      { title: "Tenant", show: (it) => element("b", {}, it.tenant) },
      { title: "Machines", number: true, show: (it) => grouped(it.machines) },
      { title: "Draw less", number: true, show: (it) => kilowatts(it.watts) },
      { title: "Do not mine", number: true, show: (it) => hashrate(it.hashrate_hps) },
      { title: "An hour of that, before the fee", number: true, show: (it) => (it.sat_per_hour === null ? "not known" : `${grouped(it.sat_per_hour)} sat`) },
    ],
    "No machine would be asked.",
  );
  losses.show(plan.losses);
  const orders = new Table(
    "Orders that are short",
    [
      { title: "Order", show: (it) => element("b", {}, it.order) },
      { title: "Short by", number: true, show: (it) => hashrate(it.short_hps) },
    ],
    "",
  );
  orders.show(plan.orders_short);
  const others = terms.filter((it) => it.curtailable_bps < 10_000 || it.changed_by);
  return [
    element("h3", {}, dry ? "What would be asked, and is not: a dry run" : "What is asked of machines"),
    facts(
      ["Site", plan.site || "all"],
      ["Machines", `${grouped(plan.machines)}, in ${grouped(plan.batches.length)} batches, the last after ${grouped(last)} s`],
      ["Drawn now", kilowatts(plan.before_watts)],
      plan.other_by ? ["Of it besides machines", `${kilowatts(plan.other_watts)}, by ${plan.other_by}`] : null,
      plan.limit_watts === null ? null : ["Keeps to the limit of", kilowatts(plan.limit_watts)],
      ["Less is asked for", kilowatts(plan.asked_watts)],
      ["Less is expected", kilowatts(plan.shed_watts)],
      ["Drawn then", `${kilowatts(plan.expected_watts)}, ± ${kilowatts(plan.error_watts)}`],
      plan.short_watts ? ["Missing", element("span", { class: "trouble" }, kilowatts(plan.short_watts))] : null,
      ["Back, when it ends, within", `${Math.ceil(plan.restore_s / 60)} min`],
      plan.taken_machines ? ["Another event has", grouped(plan.taken_machines)] : null,
      plan.unknown_machines ? ["Of unknown power", `${grouped(plan.unknown_machines)}, of which ${grouped(plan.unknown_asked)} are asked`] : null,
      ["Not asked, exempt", exempted(plan, exempt)],
      others.length ? ["Terms", others.map((it) => `${it.tenant}: priority ${it.priority}, up to ${percentOfBps(it.curtailable_bps)}`).join("; ")] : null,
      limits.length ? ["Limits in force", limits.map((it) => `${placeOf(it)}: ${kilowatts(it.watts)} (${it.reason})`).join("; ")] : null,
    ),
    plan.machines ? losses.element : element("p", { class: "trouble" }, "No machine would be asked."),
    plan.orders_short.length ? [element("p", { class: "trouble" }, "Orders that miss something meanwhile:"), orders.element] : element("p", {}, "No order is short of anything."),
  ];
}

function exempted(plan, exempt) {
  const count = `${grouped(plan.exempt_machines)} machines, ${kilowatts(plan.exempt_watts)}`;
  const names = exempt.slice(0, NAMED_MAX).map((it) => `${exemptName(it)} (${it.reason})`);
  const more = exempt.length > NAMED_MAX ? " and more" : "";
  return names.length ? `${count}; exempt are ${names.join(", ")}${more}` : count;
}

export function exemptName(it) {
  return [it.tenant, it.container, it.unit].filter(Boolean).join(".");
}

/** Of a limit. */
export function placeOf(it) {
  return it.container === null ? it.site : [it.tenant, it.container].filter(Boolean).join(".");
}
