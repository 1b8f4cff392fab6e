// All machines in one table: searched, filtered and sorted here, from the map. Of 22,400 rows those are drawn
// that are on the page that is looked at.

import { address, element, fill, link } from "./elements.js";
import { grouped, percent, ths } from "./figures.js";
import { look } from "./server.js";
import { STATES, stateSign } from "./states.js";
import { Table } from "./table.js";

const ROWS = 100;
const WORST_FIRST = "rosnm";
const WORDS = new Intl.Collator("en", { numeric: true });
const SORTS = {
  name: { words: "by name", by: (a, b) => a.at - b.at },
  state: { words: "the worst first", by: (a, b) => WORST_FIRST.indexOf(a.state) - WORST_FIRST.indexOf(b.state) || a.at - b.at },
  slowest: { words: "the slowest first", by: (a, b) => a.ths - b.ths || a.at - b.at },
  fastest: { words: "the fastest first", by: (a, b) => b.ths - a.ths || a.at - b.at },
};

export async function show(place, context, state = "", tenant = "", container = "") {
  const { signal, live } = context;
  let rows = [];
  let map = null;
  let from = 0;
  const changed = () => {
    from = 0;
    draw();
  };
  const search = element("input", { type: "search", id: "search", placeholder: "Part of a name", "aria-label": "Workers by name", input: changed });
  const states = choice("state", "State", [["", "every state"], ...Object.entries(STATES).filter(([it]) => it !== "n").map(([it, { word }]) => [it, word])], state, changed);
  const sorts = choice("sort", "Order", Object.entries(SORTS).map(([it, { words }]) => [it, words]), "state", changed);
  const places = choice("container", "Container", [["", "every container"]], "", changed);
  const told = element("p", { role: "status", class: "quiet" });
  const table = new Table(
    "Workers",
    [
      { title: "Worker", show: (it) => link(address("machine", it.name), it.name) },
      { title: "State", show: (it) => stateSign(it.state) },
      { title: "Hashrate", number: true, show: (it) => ths(it.ths) },
      { title: "Nameplate", number: true, show: (it) => ths(it.nameplate) },
      { title: "Of nameplate", number: true, show: (it) => percent(it.ths, it.nameplate) },
      { title: "Site", show: (it) => it.site ?? "–" },
    ],
    "No worker is like that.",
  );
  const earlier = element("button", { type: "button", click: () => ((from -= ROWS), draw(), scrollTo(0, 0)) }, "Before");
  const later = element("button", { type: "button", click: () => ((from += ROWS), draw(), scrollTo(0, 0)) }, "Next");
  const where = element("span", { class: "quiet" });

  const draw = () => {
    const wanted = search.value.trim().toLowerCase();
    const found = rows.filter(
      (it) =>
        (!states.value || it.state === states.value) &&
        (!places.value || it.place === places.value) &&
        (!wanted || it.lower.includes(wanted)),
    );
    found.sort(SORTS[sorts.value].by);
    from = Math.max(0, Math.min(from, Math.floor((found.length - 1) / ROWS) * ROWS));
    fill(told, `${grouped(found.length)} of ${grouped(rows.length)} workers`);
    fill(where, found.length ? `${grouped(from + 1)} to ${grouped(Math.min(from + ROWS, found.length))}` : "");
    earlier.disabled = from === 0;
    later.disabled = from + ROWS >= found.length;
    table.show(found.slice(from, from + ROWS));
  };
  const load = async () => {
    map = await look("map", signal);
    rows = rowsOf(map);
    const known = map.containers.map((it) => [`${it.tenant}.${it.name}`, [it.tenant, it.name].filter(Boolean).join(".")]);
    known.sort((a, b) => WORDS.compare(a[1], b[1]));
    const tenants = [...new Set(map.containers.map((it) => it.tenant))];
    const chosen = places.value || (tenant ? `${tenant}.${container}` : "");
    fill(places, option("", "every container"), known.map(([value, words]) => option(value, words)));
    places.value = chosen;
    if (tenant && !container && tenants.includes(tenant)) {
      search.value = `${tenant}.`;
      places.value = "";
    }
    draw();
  };
  const again = () => load().catch(() => {}); // the sign tells that the pool is away
  await load();
  fill(
    place,
    element("h1", {}, "Workers"),
    element("div", { class: "tools", role: "search" }, search, states, places, sorts),
    told,
    table.element,
    element("div", { class: "pages" }, earlier, later, where),
  );
  live.addEventListener("back", again, { signal });
  live.addEventListener("reset", again, { signal });
  live.addEventListener(
    "cells",
    ({ detail }) => {
      if (detail.base === null || detail.base !== map.version) {
        if (detail.version !== map.version) again();
        return;
      }
      map.version = detail.version;
      for (const [at, machine, letter, rate] of detail.changes) {
        const row = rows[map.containers[at].begin + machine];
        if (row) Object.assign(row, { state: letter, ths: rate });
      }
      draw();
    },
    { signal },
  );
}

function rowsOf(map) {
  const rows = [];
  for (const container of map.containers) {
    const { tenant, name, site, machine_ths: nameplate, units, states, ths: rates } = container;
    container.begin = rows.length;
    units.forEach((unit, machine) => {
      const full = [tenant, name, unit].filter(Boolean).join(".");
      rows.push({
        at: rows.length,
        name: full,
        lower: full.toLowerCase(),
        place: `${tenant}.${name}`,
        site,
        nameplate,
        state: states[machine],
        ths: rates[machine],
      });
    });
  }
  return rows;
}

function choice(id, title, options, chosen, change) {
  const made = element("select", { id, "aria-label": title, change }, options.map(([value, words]) => option(value, words)));
  made.value = chosen;
  return made;
}

function option(value, words) {
  return element("option", { value }, words);
}
