import { element, fill } from "./elements.js";
import { difference } from "./facts.js";
import { moment } from "./figures.js";
import { ask } from "./server.js";
import { Table } from "./table.js";

export async function show(place) {
  const search = element("input", { type: "search", id: "subject", name: "subject", "aria-label": "Changes of what", placeholder: "Of what, as acme or acme.c07" });
  const table = new Table(
    "Changes",
    [
      { title: "Number", number: true, show: (it) => `${it.id}` },
      { title: "When", show: (it) => moment(it.changed_at_s) },
      { title: "Who", show: (it) => [element("b", {}, it.changed_by), element("div", { class: "quiet" }, it.source)] },
      { title: "Command", show: (it) => it.command },
      { title: "Of", show: (it) => it.subject },
      { title: "What", show: (it) => it.unreadable ?? difference(it.was, it.became) },
    ],
    "Nothing was changed.",
  );
  const older = element("button", { type: "button", click: () => load(before) }, "Older ones");
  const newest = element("button", { type: "button", click: () => load(null) }, "The newest");
  let before = null;
  const load = async (from) => {
    const rows = await ask("change.list", { before: from, subject: search.value.trim() || null });
    before = rows[0]?.id ?? null;
    older.disabled = rows.length === 0 || before <= 1;
    newest.disabled = from === null;
    table.show(rows.toReversed());
  };
  const form = element(
    "form",
    { class: "tools", role: "search", submit: (event) => (event.preventDefault(), load(null)) },
    search,
    element("button", {}, "Search"),
  );
  await load(null);
  fill(
    place,
    element("h1", {}, "Changes"),
    element("p", { class: "quiet" }, "Who changed what, and from where. Each is bound to the one before it: angara ledger verify proves them."),
    form,
    table.element,
    element("div", { class: "pages" }, newest, older),
  );
}
