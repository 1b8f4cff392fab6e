import { address, element, fill, link } from "./elements.js";
import { commandButton } from "./command_form.js";
import { difference, facts } from "./facts.js";
import { moment } from "./figures.js";
import { refreshed } from "./refresh.js";
import { ask } from "./server.js";
import { Table } from "./table.js";

export async function show(place, context, number) {
  if (number) await showOne(place, context, Number(number));
  else await showAll(place, context);
}

async function showAll(place, context) {
  const all = element("input", { type: "checkbox", id: "all", change: () => load() });
  const load = async () => table.show((await ask("request.list", { all: all.checked })).toReversed());
  const table = new Table(
    "Requests",
    [
      { title: "Request", show: (it) => link(address("requests", it.id), `${it.id}: ${it.command}`), by: (it) => it.id },
      { title: "Of", show: (it) => it.subject, by: (it) => it.subject },
      { title: "State", show: (it) => it.state.replace("_", " "), by: (it) => it.state },
      { title: "Asked for", show: (it) => [moment(it.asked_at_s), ` by ${it.asked_by}`], by: (it) => it.asked_at_s },
      { title: "Agreed to", show: (it) => (it.approved_by ? [moment(it.approved_at_s), ` by ${it.approved_by}`] : it.people > 1 ? "waits for a second person" : "needs nobody") },
      { title: "Not before", show: (it) => moment(it.earliest_at_s), by: (it) => it.earliest_at_s },
    ],
    "Nothing waits for a second person.",
  );
  await refreshed(context, load);
  fill(
    place,
    element("h1", {}, "Requests"),
    element("div", { class: "tools" }, element("label", { for: "all" }, all, "Those that are over, too")),
    table.element,
  );
}

async function showOne(place, context, number) {
  const shown = element("div");
  const load = async () => {
    const it = await ask("request.show", { number });
    const own = it.asked_by === context.me.name; // the pool itself refuses it, however he comes
    fill(
      shown,
      facts(
        ["Command", `${it.command} of ${it.subject}`],
        ["State", it.state.replace("_", " ")],
        ["Asked for", [moment(it.asked_at_s), ` by ${it.asked_by}, ${it.asked_from}`]],
        ["Agreed to", it.approved_by ? [moment(it.approved_at_s), ` by ${it.approved_by}, ${it.approved_from}`] : null],
        ["Not before", moment(it.earliest_at_s)],
        ["Over at", moment(it.expires_at_s)],
        it.ended_by ? ["Ended", [moment(it.ended_at_s), ` by ${it.ended_by}`, it.why && `: ${it.why}`]] : null,
      ),
      element("h2", {}, "What it changes"),
      difference(it.was, it.became),
      element(
        "div",
        { class: "buttons tools" },
        it.state !== "waiting" ? null : own ? "It waits for somebody else." : commandButton(context, "request.approve", "Agree", { number }, load),
        it.ended_by ? null : commandButton(context, "request.withdraw", own ? "Withdraw" : "Refuse", { number }, load),
      ),
    );
  };
  await refreshed(context, load);
  fill(place, element("h1", {}, `Request ${number}`), shown);
}
