// One container on the map: its machines as cells, by row and slot where their names have two numbers, else
// in order. Arrow keys walk from cell to cell, Enter opens the machine.

import { address, element, fill, link } from "./elements.js";
import { percent, ths } from "./figures.js";
import { STATES, coloursOf, drawCell } from "./states.js";

const GAP = 1;
const ROW_AND_SLOT = /^\D*(\d+)\D+(\d+)$/;
const COLUMNS_MAX = 60; // a row that is longer is no row of a container

/** The map has whole TH/s: of machines that do less it cannot tell how much. */
export function rateOf(rateThs, counts) {
  return rateThs === 0 && counts.m + counts.s + counts.r > 0 ? "under 1 TH/s" : ths(rateThs);
}

export class Tile {
  constructor(container, withTenant, tell) {
    this.container = container;
    this.tell = tell;
    this.letters = [...container.states, ..."n".repeat(container.unseen)];
    this.count();
    this.bar = element("meter", { min: 0, max: 100, "aria-label": "Hashrate of nameplate, in percent" });
    this.figures = element("p", { class: "figures" });
    const name = withTenant ? `${container.tenant}.${container.name}` : container.name;
    this.heading = element(
      "h2",
      {},
      link(address("workers", "", container.tenant, container.name), name || container.tenant),
      container.site && element("span", { class: "quiet" }, ` ${container.site}`),
    );
    this.element = element(
      "section",
      { class: "tile", "aria-label": name || container.tenant },
      this.heading,
      container.nameplate_ths ? this.bar : null,
      this.figures,
    );
    this.say();
  }

  /** Its cells, when somebody is about to see them: of a site's 22,400 he sees some 2,000 at a time. */
  begin() {
    this.place();
    this.canvas = element("canvas", {
      tabindex: "0",
      role: "application",
      "aria-roledescription": "grid of machines",
      keydown: (event) => this.key(event),
      focus: () => this.mark(this.at ?? 0),
      blur: () => this.mark(null),
      mousemove: (event) => this.mark(this.under(event)),
      mouseleave: () => document.activeElement !== this.canvas && this.mark(null),
      click: (event) => this.open(this.under(event)),
    });
    this.size();
    this.heading.after(this.canvas);
    this.say();
  }

  /** Who was at this machine by keyboard, on a map of before, is at it again. */
  enter(unit) {
    if (!this.canvas) this.begin();
    this.at = Math.max(0, this.container.units.indexOf(unit));
    this.canvas.focus({ preventScroll: true });
  }

  get name() {
    return this.container.name;
  }

  matches(wanted) {
    const { name, site, tenant } = this.container;
    return [`${tenant}.${name}`, site ?? ""].some((it) => it.toLowerCase().includes(wanted));
  }

  troubled() {
    return this.counts.o + this.counts.r + this.counts.s;
  }

  /** Where each cell is: its column and row. */
  place() {
    const { units } = this.container;
    const found = units.map((it) => ROW_AND_SLOT.exec(it));
    const pairs = found.map((it) => it && [Number(it[1]), Number(it[2])]);
    const rows = [...new Set(pairs.filter(Boolean).map(([row]) => row))].sort((a, b) => a - b);
    const slots = [...new Set(pairs.filter(Boolean).map(([, slot]) => slot))].sort((a, b) => a - b);
    const inRows = units.length > 1 && pairs.every(Boolean) && slots.length <= COLUMNS_MAX && rows.length * slots.length < 4 * units.length;
    if (inRows) {
      const [rowAt, slotAt] = [new Map(rows.map((it, at) => [it, at])), new Map(slots.map((it, at) => [it, at]))];
      this.columns = slots.length;
      this.cells = pairs.map(([row, slot]) => [slotAt.get(slot), rowAt.get(row)]);
    } else {
      this.columns = Math.min(COLUMNS_MAX, Math.max(8, Math.ceil(Math.sqrt(this.letters.length * 1.2))));
      this.cells = units.map((_, at) => [at % this.columns, Math.floor(at / this.columns)]);
    }
    const begin = inRows ? rows.length * this.columns : units.length;
    for (let at = units.length; at < this.letters.length; at += 1) {
      const cell = begin + at - units.length;
      this.cells.push([cell % this.columns, Math.floor(cell / this.columns)]);
    }
    this.rows = 1 + Math.max(0, ...this.cells.map(([, row]) => row));
    this.byPlace = new Map(this.cells.map(([column, row], at) => [row * this.columns + column, at]));
  }

  size() {
    const wide = innerWidth <= 600 ? innerWidth - 48 : 262; // as the sheet has it
    this.cell = Math.max(5, Math.min(22, Math.floor(wide / this.columns) - GAP));
    this.ratio = Math.min(2, devicePixelRatio || 1);
    const [width, height] = [this.columns, this.rows].map((it) => it * (this.cell + GAP) + 2 * GAP);
    this.canvas.width = width * this.ratio;
    this.canvas.height = height * this.ratio;
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
  }

  count() {
    this.counts = { m: 0, s: 0, r: 0, o: 0, n: 0 };
    for (const letter of this.letters) this.counts[letter] += 1;
    this.rateThs = this.container.ths.reduce((sum, it) => sum + it, 0);
  }

  /** What it does, in words. */
  say() {
    const { nameplate_ths: nameplate } = this.container;
    const words = Object.keys(STATES)
      .filter((it) => this.counts[it] > 0)
      .map((it) => `${this.counts[it]} ${STATES[it].word}`);
    this.canvas?.setAttribute("aria-label", `${this.container.name || this.container.tenant}: ${words.join(", ")}. Arrow keys go from machine to machine.`);
    const part = nameplate ? percent(this.rateThs, nameplate) : null;
    if (nameplate) this.bar.value = Math.min(100, (100 * this.rateThs) / nameplate);
    const trouble = this.troubled();
    fill(
      this.figures,
      element("b", {}, rateOf(this.rateThs, this.counts)),
      part && ` ${part}`,
      element("span", { class: trouble ? "trouble" : "quiet" }, trouble ? words.filter((it) => !it.endsWith(" mining")).join(", ") : `${this.counts.m} mining`),
    );
  }

  change(machine, letter, rate) {
    this.letters[machine] = letter;
    this.container.ths[machine] = rate;
    if (this.waiting) return;
    this.waiting = true; // many come at once
    requestAnimationFrame(() => {
      this.waiting = false;
      this.count();
      this.say();
      this.draw();
    });
  }

  /** On the screen; what is not there is drawn when it comes into sight. */
  draw(colours = coloursOf(this.element)) {
    this.stale = !this.inSight;
    if (this.stale) return;
    const context = this.canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const step = this.cell + GAP;
    this.cells.forEach(([column, row], at) =>
      drawCell(context, colours, this.letters[at], GAP + column * step, GAP + row * step, this.cell),
    );
    if (this.marked === null || this.marked === undefined) return;
    const [column, row] = this.cells[this.marked];
    context.strokeStyle = colours.mark;
    context.lineWidth = 2;
    context.strokeRect(column * step, row * step, this.cell + 2 * GAP, this.cell + 2 * GAP);
  }

  /** It comes into sight, or leaves it. */
  sight(inSight, colours) {
    this.inSight = inSight;
    if (!inSight) return;
    if (!this.canvas) this.begin();
    if (this.stale) this.draw(colours);
  }

  under(event) {
    const step = this.cell + GAP;
    const [column, row] = [event.offsetX, event.offsetY].map((it) => Math.floor((it - GAP) / step));
    return this.byPlace.get(row * this.columns + column) ?? null;
  }

  mark(at) {
    if (at !== null && !(at in this.cells)) at = null;
    if (this.marked === at) return;
    this.marked = at;
    if (at !== null) this.at = at;
    this.draw();
    this.tell(at === null ? "" : this.words(at));
  }

  words(at) {
    const { units, ths: rates, machine_ths: nameplate } = this.container;
    const state = STATES[this.letters[at]].word;
    if (at >= units.length) return `${this.container.name}: a place that no machine has come to`;
    const rate = rateOf(rates[at], { m: 0, s: 0, r: 0, [this.letters[at]]: 1 });
    return `${this.fullName(at)}: ${state}, ${rate}${nameplate ? ` of ${ths(nameplate)}` : ""}`;
  }

  fullName(at) {
    const { tenant, name, units } = this.container;
    return [tenant, name, units[at]].filter(Boolean).join(".");
  }

  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const from = this.at ?? 0;
    if (event.key in steps) {
      const [right, down] = steps[event.key];
      let [column, row] = this.cells[from];
      do {
        column += right;
        row += down;
        const next = this.byPlace.get(row * this.columns + column);
        if (next !== undefined && column >= 0 && column < this.columns) {
          this.mark(next);
          break;
        }
      } while (column >= 0 && column < this.columns && row >= 0 && row < this.rows);
    } else if (event.key === "Home") this.mark(0);
    else if (event.key === "End") this.mark(this.cells.length - 1);
    else if (event.key === "Enter") this.open(from);
    else return;
    event.preventDefault();
  }

  open(at) {
    if (at !== null && at < this.container.units.length) location.hash = address("machine", this.fullName(at));
  }
}
