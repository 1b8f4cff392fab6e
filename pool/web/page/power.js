// What is drawn now, by whom, and of what that is known; and what was asked of machines for the grid's sake.

import { commandButton } from "./command_form.js";
import { address, element, fill, link } from "./elements.js";
import { facts } from "./facts.js";
import { NOTHING, ago, duration, grouped, hashrate, kilowatts, moment, percentOfBps } from "./figures.js";
import { powerPlan } from "./power_plan.js";
import { termsOf } from "./power_terms.js";
import { refreshed } from "./refresh.js";
import { ask, commands } from "./server.js";
import { Table } from "./table.js";

export async function show(place, context, event) {
  if (event) await showEvent(place, context, Number(event));
  else await showAll(place, context);
}

async function showAll(place, context) {
  const table = await commands();
  const operates = !context.me.tenant;
  const mayHere = (command) => operates && table.has(command);
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
  const events = new Table(
    "Curtailment",
    [
      { title: "Event", show: (it) => link(address("power", it.id), `${it.id}: ${asked(it)}`), by: (it) => it.id },
      { title: "Site", show: (it) => it.site || "all", by: (it) => it.site },
      { title: "State", show: stateOf, by: (it) => it.state },
      { title: "From", show: (it) => moment(it.from_s), by: (it) => it.from_s },
      { title: "Until", show: (it) => moment(it.until_s), by: (it) => it.until_s },
      { title: "Less by", number: true, show: (it) => kilowatts(it.watts_asked), by: (it) => it.watts_asked },
      { title: "Machines", show: (it) => [counted(it.machines), it.unknown_machines ? `; of unknown power ${unknown(it)}` : ""] },
      { title: "Asked by", show: (it) => it.asked_by, by: (it) => it.asked_by },
    ],
    "Nothing is asked of machines.",
  );
  const terms = operates ? termsOf(context, mayHere) : null;
  const every = element("input", { type: "checkbox", id: "every", change: () => load() });
  const load = async () => {
    const now = await ask("power.now", {});
    sites.show(now.sites);
    tenants.show(now.tenants);
    containers.show(now.containers);
    meters.show(now.meters);
    if (mayHere("power.suspects")) suspects.show(await ask("power.suspects", {}));
    if (mayHere("power.list")) events.show((await ask("power.list", { everything: every.checked })).toReversed());
    if (mayHere("power.signals")) signals.show(await ask("power.signals", {}));
    await terms?.load();
  };
  await refreshed(context, load);
  fill(
    place,
    element("h1", {}, "Power"),
    mayHere("power.list") && [
      element("h2", {}, "Curtailment"),
      element(
        "div",
        { class: "tools" },
        element("label", { for: "every" }, every, "Events that are over, too"),
        commandButton(context, "power.curtail", "Curtail", { source: "api" }, load, powerPlan),
      ),
      events.element,
    ],
    terms?.elements,
    operates && [element("h2", {}, "Sites"), sites.element],
    element("h2", {}, operates ? "Tenants" : "In all"),
    tenants.element,
    element("h2", {}, "Containers"),
    containers.element,
    operates && [element("h2", {}, "Meters"), meters.element],
    mayHere("power.suspects") && [element("h2", {}, "Draws for nothing"), suspects.element],
    mayHere("power.signals") && [element("h2", {}, "Signals"), signals.element],
  );
}

// An event that may still be ended, and states of machines that are the event's: those can be let go.
const ENDS = ["planned", "curtailing", "holding"];
const OWNED = ["pending", "asked", "confirmed", "drifted", "waking", "lost"];
// As a machine goes through them.
const STATES = ["pending", "asked", "confirmed", "refused", "drifted", "waking", "restored", "lost", "released"];
const TROUBLE = ["refused", "drifted", "lost"];

async function showEvent(place, context, number) {
  const shown = element("div");
  const machines = new Table(
    "Machines",
    [
      { title: "Machine", show: (it) => link(address("machine", it.machine), it.machine), by: (it) => it.machine },
      { title: "State", show: (it) => marked(it.state), by: (it) => it.state },
      { title: "Since", show: (it) => moment(it.changed_at_s), by: (it) => it.changed_at_s },
      { title: "In words", show: (it) => said.get(it.machine) ?? NOTHING },
      { title: "Drew", number: true, show: (it) => kilowatts(it.watts_before), by: (it) => it.watts_before },
      { title: "Off from", show: (it) => moment(it.off_from_s), by: (it) => it.off_from_s },
      { title: "Until", show: (it) => moment(it.off_until_s), by: (it) => it.off_until_s },
      { title: "Asked", number: true, show: (it) => grouped(it.asks), by: (it) => it.asks },
    ],
    "It has no machine.",
  );
  const said = new Map(); // of each machine the last that happened to it
  const at = { title: "At", show: (it) => moment(it.at_s), by: (it) => it.step };
  const words = [
    { title: "State", show: (it) => marked(it.state), by: (it) => it.state },
    { title: "In words", show: (it) => it.words },
  ];
  const history = new Table("The event's steps", [at, ...words], "Nothing has happened yet.");
  const machine = { title: "Machine", show: (it) => it.machine, by: (it) => it.machine };
  const steps = new Table("Steps of machines", [at, machine, ...words], "Nothing was asked of a machine yet.");
  const load = async () => {
    const it = await ask("power.show", { event: number });
    fill(
      shown,
      facts(
        ["Asked for", [asked(it), it.site ? ` of ${it.site}` : " of all sites"]],
        ["State", stateOf(it)],
        ["From", moment(it.from_s)],
        ["Until", moment(it.until_s)],
        ["Within", duration(it.ramp_s)],
        ["Drawn before", kilowatts(it.watts_before)],
        ["Less by", kilowatts(it.watts_asked)],
        ["Machines", counted(it.machines)],
        it.unknown_machines ? ["Of unknown power", unknown(it)] : null,
        ["Asked by", [it.asked_by, ", ", moment(it.asked_at_s), ` (${it.source} ${it.reference})`]],
        it.restore_asked_by ? [it.state === "cancelled" ? "Called off by" : "Restored by", [it.restore_asked_by, ", ", moment(it.restore_asked_at_s)]] : null,
        it.ended_at_s === null ? null : [it.state === "cancelled" ? "Called off" : "Over", moment(it.ended_at_s)],
        it.orders_short.length
          ? ["Orders that miss something", element("span", { class: "trouble" }, it.orders_short.map((of) => `${of.order}: ${hashrate(of.short_hps)}`).join("; "))]
          : null,
        it.note ? ["Note", it.note] : null,
      ),
      element(
        "div",
        { class: "buttons tools" },
        ENDS.includes(it.state) && it.restore_asked_at_s === null
          ? commandButton(context, "power.restore", it.state === "planned" ? "Call off" : "Restore", { event: number }, load)
          : null,
        OWNED.some((state) => it.machines?.[state])
          ? commandButton(context, "power.release", "Let machines go at once", { event: number }, load)
          : null,
        it.machines?.lost ? commandButton(context, "held.forget", "Forget a machine that is gone for good", {}, load) : null,
      ),
    );
    said.clear();
    for (const step of it.steps) if (step.machine) said.set(step.machine, step.words);
    machines.show(it.of_machines);
    const newest = it.steps.toReversed();
    history.show(newest.filter((step) => !step.machine));
    steps.show(newest.filter((step) => step.machine));
  };
  await refreshed(context, load);
  fill(
    place,
    element("h1", {}, `Curtailment ${number}`),
    shown,
    element("h2", {}, "What happened"),
    history.element,
    element("h2", {}, "Machines"),
    machines.element,
    element("h2", {}, "Steps of machines"),
    steps.element,
  );
}

/** What was asked for, in words. */
function asked(it) {
  const value = it.target_value;
  return {
    limit: () => `to ${kilowatts(value)}`,
    share: () => `${percentOfBps(value)} less`,
    everything: () => "everything off",
    break_even: () => (value === null ? "what does not pay for its energy" : `what earns less than ${value / 1000} sat a kWh`),
  }[it.target]();
}

function stateOf(it) {
  const dry = it.dry_run ? " (dry run)" : "";
  const lost = it.machines?.lost ? element("span", { class: "trouble" }, `, ${grouped(it.machines.lost)} lost`) : null;
  return [it.state, dry, lost];
}

/** A machine's state, to be seen where it is not as it should be. */
function marked(state) {
  return TROUBLE.includes(state) ? element("span", { class: "trouble" }, state) : state;
}

function counted(machines) {
  const words = STATES.filter((state) => machines?.[state]).map((state) => `${grouped(machines[state])} ${state}`);
  return words.length ? words.join(", ") : NOTHING;
}

/** Of machines whose watts nobody knows. */
function unknown(it) {
  return `${grouped(it.unknown_off)} of ${grouped(it.unknown_machines)} off`;
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
