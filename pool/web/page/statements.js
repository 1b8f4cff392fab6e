// A tenant's statement of a period, as its file has it but for the machines; and the files.

import { address, element, fill } from "./elements.js";
import { facts } from "./facts.js";
import { btc, hashrate } from "./figures.js";
import { ask, commands, mayAs } from "./server.js";
import { Table } from "./table.js";

const DAY_MS = 86_400_000;
const KEPT_MS = 60_000; // a browser has begun to save a file by then

export async function show(place, context, tenant = "", from = "", to = "") {
  const { me } = context;
  const names = me.tenant ? [me.tenant] : await tenantNames(me);
  if (names.length === 0) {
    fill(place, element("h1", {}, "Statements"), element("p", { class: "empty" }, "There is no tenant yet."));
    return;
  }
  const whose = element("select", { id: "whose" }, names.map((it) => element("option", { value: it }, it)));
  whose.value = names.includes(tenant) ? tenant : names[0];
  const [month, tomorrow] = thisMonth();
  const first = day("first", from || month);
  const last = day("last", iso(Date.parse(to || tomorrow) - DAY_MS));
  const asked = () => ({ tenant: whose.value, from_day: first.value, to_day: iso(Date.parse(last.value) + DAY_MS) });
  const go = (event) => {
    event.preventDefault();
    const it = asked();
    location.hash = address("statements", it.tenant, it.from_day, it.to_day);
  };
  const form = element(
    "form",
    { class: "tools", submit: go },
    element("label", { for: "whose" }, "Of "),
    whose,
    element("label", { for: "first" }, "First day "),
    first,
    element("label", { for: "last" }, "Last day "),
    last,
    element("button", { class: "primary" }, "Show"),
  );
  const shown = element("div", { class: "statement" });
  fill(place, element("h1", {}, "Statements"), form, shown);
  const wanted = { tenant: whose.value, from_day: from || month, to_day: to || tomorrow };
  await draw(shown, await ask("statement.show", wanted), wanted, context.signal);
}

async function tenantNames(me) {
  const known = (await commands()).get("tenant.list");
  return known && mayAs(me.role, known.least) ? (await ask("tenant.list")).map((it) => it.name) : [];
}

function day(id, value) {
  return element("input", { type: "date", id, name: id, value, required: true });
}

function iso(atMs) {
  return new Date(atMs).toISOString().slice(0, 10);
}

/** Its first day, and the day after today: in UTC, as statements are. */
function thisMonth() {
  const today = iso(Date.now());
  return [`${today.slice(0, 8)}01`, iso(Date.parse(today) + DAY_MS)];
}

async function draw(shown, it, wanted, signal) {
  const problem = element("p", { class: "problem", role: "alert" });
  const save = (format) =>
    element("button", { type: "button", click: () => saved(wanted, format).catch((error) => fill(problem, error.message)) }, format.toUpperCase());
  const blocks = await Promise.all(it.sections.map(async (section) => [section.title && element("h2", {}, section.title), await Promise.all(section.blocks.map((block) => drawn(block, signal)))]));
  fill(
    shown,
    element("h2", {}, `${it.title}: ${it.tenant}, ${it.period}`),
    it.provisional && element("p", { class: "trouble" }, `Provisional: ${it.provisional}.`),
    element(
      "div",
      { class: "tools" },
      element("span", { class: "quiet" }, "As a file, with its machines:"),
      save("csv"),
      save("json"),
      element("button", { type: "button", click: () => print() }, "Print, or save as PDF"),
    ),
    problem,
    blocks,
  );
}

async function saved(wanted, format) {
  const file = await ask("statement.file", { ...wanted, format });
  const url = URL.createObjectURL(new Blob([file.content], { type: file.kind }));
  element("a", { href: url, download: file.name }).click();
  setTimeout(() => URL.revokeObjectURL(url), KEPT_MS);
}

async function drawn(block, signal) {
  if (block.type === "prose") return element("p", { class: "prose" }, block.text);
  if (block.type === "series") return series(block, signal);
  if (block.type === "table") return table(block);
  return facts(...block.facts.map((it) => [it.label, it.strong ? element("b", {}, it.cell.text) : it.cell.text]));
}

/** A cell may have several lines. */
function lines(text) {
  const found = text.split("\n");
  return found.length === 1 ? text : found.map((it) => element("div", {}, it));
}

async function series({ title, kind, quantity, starts_utc: starts, values }, signal) {
  const { chart } = await import("./chart.js");
  const atS = starts.map((it) => Date.parse(it) / 1000);
  const shownAs = quantity === "sat" ? btc : hashrate;
  return chart(title, atS, [{ title, values, colour: "--accent", show: shownAs, bars: kind === "bars" }], signal);
}

function table({ columns, rows, total, empty }) {
  const made = new Table(
    columns[0].title,
    columns.map((it, at) => ({ title: it.title, number: it.right, show: (row) => lines(row[at].text), by: (row) => row[at].value })),
    empty,
  );
  made.show(rows, total);
  return made.element;
}
