// The site map: one tile a container, one cell a machine. What changes comes by the event stream.

import { address, element, fill, link } from "./elements.js";
import { grouped, percent, ths } from "./figures.js";
import { look } from "./server.js";
import { STATES, coloursOf, stateSign } from "./states.js";
import { Tile, rateOf } from "./tile.js";

const NEAR = { rootMargin: "400px" }; // what is about to be scrolled to is drawn already

export async function show(place, context) {
  const map = new SiteMap(place, context);
  await map.load();
  const { live, signal } = context;
  live.addEventListener("cells", ({ detail }) => map.change(detail), { signal });
  live.addEventListener("reset", () => map.again(), { signal });
  live.addEventListener("back", () => map.again(), { signal });
  document.documentElement.addEventListener("themechange", () => map.draw(), { signal });
  let width = innerWidth;
  addEventListener("resize", () => width !== innerWidth && ((width = innerWidth), map.build()), { signal });
}

class SiteMap {
  constructor(place, { signal, me, live }) {
    Object.assign(this, { place, signal, me, live });
    this.counts = element("p", { class: "counts" });
    this.tiles = [];
    this.sight = new IntersectionObserver(() => {});
    this.grid = element("div", { class: "tiles" });
    this.told = element("p", { class: "told", role: "status" });
    this.trouble = element("input", { type: "checkbox", id: "trouble", change: () => this.order() });
    this.search = element("input", {
      type: "search",
      id: "map-search",
      placeholder: "Container or site",
      "aria-label": "Containers by name, site or tenant",
      input: () => this.order(),
    });
  }

  async load() {
    this.map = await look("map", this.signal);
    fill(
      this.place,
      element(
        "div",
        { class: "top" },
        element("h1", {}, "Site map"),
        this.counts,
        element("div", { class: "tools" }, this.search, element("label", { for: "trouble" }, this.trouble, "Trouble first")),
      ),
      this.grid,
      this.told,
    );
    this.build();
  }

  async again() {
    if (this.asking) return;
    this.asking = true;
    try {
      this.map = await look("map", this.signal);
      this.build();
    } catch {
      // the sign says that this is not of now; "back" brings us here again
    } finally {
      this.asking = false;
    }
  }

  build() {
    const left = this.tiles.find((it) => it.canvas === document.activeElement);
    const several = new Set(this.map.containers.map((it) => it.tenant)).size > 1;
    this.sight.disconnect();
    this.tiles = this.map.containers.map((it) => new Tile(it, several, (words) => fill(this.told, words)));
    const tileOf = new Map(this.tiles.map((it) => [it.element, it]));
    this.sight = new IntersectionObserver((seen) => {
      const colours = coloursOf(this.grid);
      seen.forEach((it) => tileOf.get(it.target)?.sight(it.isIntersecting, colours));
    }, NEAR);
    this.tiles.forEach((it) => this.sight.observe(it.element));
    if (this.tiles.length === 0) {
      fill(this.grid, element("p", { class: "empty" }, "No machine has come yet. Machines connect as tenant.container.unit."));
    }
    this.order();
    this.count();
    if (left) {
      const { tenant, name, units } = left.container;
      this.tiles.find((it) => it.container.tenant === tenant && it.name === name)?.enter(units[left.at]);
    }
  }

  /** Those that are looked for; with trouble first where that is asked for. */
  order() {
    const wanted = this.search.value.trim().toLowerCase();
    let shown = this.tiles.filter((it) => it.matches(wanted));
    if (this.trouble.checked) shown = shown.toSorted((a, b) => b.troubled() - a.troubled());
    if (this.tiles.length > 0) fill(this.grid, shown.map((it) => it.element));
    this.draw();
  }

  draw() {
    const colours = coloursOf(this.grid);
    this.tiles.forEach((it) => it.draw(colours));
  }

  change({ version, base, changes }) {
    if (base === null || base !== this.map.version) {
      if (version !== this.map.version) this.again();
      return;
    }
    this.map.version = version;
    for (const [container, machine, letter, rate] of changes) this.tiles[container]?.change(machine, letter, rate);
    this.count();
  }

  count() {
    const sums = { m: 0, s: 0, r: 0, o: 0, n: 0 };
    let rate = 0;
    let nameplate = 0;
    for (const tile of this.tiles) {
      for (const letter in sums) sums[letter] += tile.counts[letter];
      rate += tile.rateThs;
      nameplate += tile.container.nameplate_ths ?? 0;
    }
    fill(
      this.counts,
      element("b", { class: "rate" }, rateOf(rate, sums)),
      nameplate ? element("span", {}, `${percent(rate, nameplate)} of ${ths(nameplate)}`) : null,
      Object.keys(STATES).map((letter) => {
        const sign = stateSign(letter, `${grouped(sums[letter])} ${STATES[letter].word}`);
        return letter === "n" ? sign : link(address("workers", letter), sign);
      }),
    );
  }
}
