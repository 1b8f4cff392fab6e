// Whom an event asks and how far: machines that none asks, tenants' terms, limits in force; and who is held off now.

import { commandButton } from "./command_form.js";
import { element } from "./elements.js";
import { NOTHING, grouped, hashrate, kilowatts, moment, percentOfBps } from "./figures.js";
import { exemptName, placeOf } from "./power_plan.js";
import { Refused, ask } from "./server.js";
import { Table } from "./table.js";

const SHOWN_MAX = 200; // rows of what may be thousands: the command line has them all

/** Its tables, and what fills them. `mayHere`: whether the pool has a command for who looks. */
export function termsOf(context, mayHere) {
  const load = async () => {
    if (mayHere("power.exemptions")) exempt.show(await ask("power.exemptions", { limit: SHOWN_MAX }));
    if (mayHere("power.terms")) terms.show(await ask("power.terms"));
    if (mayHere("limit.list")) limits.show(await ask("limit.list"));
    if (mayHere("held.list")) held.show(await ask("held.list", { limit: SHOWN_MAX }).catch(nobody));
  };
  const exempt = new Table(
    "Machines that no event asks",
    [
      { title: "Machines", show: (it) => element("b", {}, exemptName(it)), by: exemptName },
      { title: "Why", show: (it) => it.reason },
      { title: "By", show: (it) => [it.made_by, ", ", moment(it.made_at_s)], by: (it) => it.made_at_s },
      { title: "Change", show: (it) => commandButton(context, "power.unexempt", "Ask it again", { machines: exemptName(it) }, load) },
    ],
    "Every machine may be asked.",
  );
  const terms = new Table(
    "What tenants may be asked for",
    [
      { title: "Tenant", show: (it) => element("b", {}, it.tenant), by: (it) => it.tenant },
      { title: "Priority, 1 is asked first", number: true, show: (it) => grouped(it.priority), by: (it) => it.priority },
      { title: "Of its power at most", number: true, show: (it) => percentOfBps(it.curtailable_bps), by: (it) => it.curtailable_bps },
      { title: "By", show: (it) => (it.changed_by ? [it.changed_by, ", ", moment(it.changed_at_s)] : NOTHING), by: (it) => it.changed_at_s },
      { title: "Change", show: (it) => commandButton(context, "power.set-terms", "Change", { tenant: it.tenant }, load) },
    ],
    "There is no tenant.",
  );
  const limits = new Table(
    "Limits",
    [
      { title: "Of", show: (it) => element("b", {}, placeOf(it)), by: placeOf },
      { title: "At most", number: true, show: (it) => kilowatts(it.watts), by: (it) => it.watts },
      { title: "State", show: (it) => it.state, by: (it) => it.state },
      { title: "From", show: (it) => moment(it.from_s), by: (it) => it.from_s },
      { title: "Until", show: (it) => (it.until_s === null ? "it is lifted" : moment(it.until_s)), by: (it) => it.until_s },
      { title: "Why", show: (it) => [it.reason, `, ${it.set_by}`] },
      { title: "Change", show: (it) => commandButton(context, "limit.remove", "Lift", { limit: it.id }, load) },
    ],
    "Nothing is limited.",
  );
  const held = new Table(
    "Held off, or limited",
    [
      { title: "Machine", show: (it) => element("b", {}, exemptName(it.machine)), by: (it) => exemptName(it.machine) },
      { title: "Told to", show: (it) => (it.action === "limit" ? `draw ${it.percent} %` : it.action), by: (it) => it.action },
      { title: "Ends by itself", show: (it) => moment(it.until_s), by: (it) => it.until_s },
      { title: "Told to go on since", show: (it) => moment(it.released_s), by: (it) => it.released_s },
      { title: "Did before", number: true, show: (it) => (it.before_hps ? hashrate(it.before_hps) : NOTHING), by: (it) => it.before_hps },
      { title: "Does now", number: true, show: (it) => hashrate(it.now_hps), by: (it) => it.now_hps },
      { title: "By its work", show: (it) => it.proof ?? NOTHING, by: (it) => it.proof },
    ],
    "Nobody is off, or limited, because it was told so.",
  );
  const tools = (...buttons) => element("div", { class: "tools" }, buttons);
  const part = (command, title, table, ...buttons) => mayHere(command) && [element("h2", {}, title), buttons.length > 0 && tools(...buttons), table.element];
  return {
    load,
    elements: [
      part("held.list", `Held off, or limited (up to ${SHOWN_MAX} of them)`, held),
      part("power.exemptions", "Machines that no event asks", exempt, commandButton(context, "power.exempt", "Exempt machines", {}, load)),
      part("power.terms", "What tenants may be asked for", terms),
      part("limit.list", "Limits", limits, commandButton(context, "limit.set", "Set a limit", {}, load)),
    ],
  };
}

/** Of a pool that tells no machines anything. */
function nobody(error) {
  if (error instanceof Refused && error.status === 400) return [];
  throw error;
}
