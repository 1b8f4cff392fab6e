// A table of rows: sorted by its headings, a list of cards on a phone.

import { element, fill } from "./elements.js";

/**
 * `columns`: {name, title, show(row), by(row), number} each; `by` is what a column is sorted by, and one
 * without it cannot be. `empty`: the words where there is nothing.
 */
export class Table {
  constructor(caption, columns, empty) {
    this.columns = columns;
    this.rows = [];
    this.sorted = null;
    this.empty = empty;
    this.body = element("tbody");
    this.foot = element("tfoot");
    this.heads = columns.map((column) => this.head(column));
    this.element = element(
      "div",
      { class: "table" },
      element(
        "table",
        {},
        element("caption", { class: "hidden" }, caption),
        element("thead", {}, element("tr", {}, this.heads)),
        this.body,
        this.foot,
      ),
    );
  }

  head(column) {
    const kind = column.number ? "number" : null;
    if (!column.by) return element("th", { scope: "col", class: kind }, column.title);
    const button = element("button", { type: "button", class: "sort", click: () => this.sort(column) }, column.title);
    return element("th", { scope: "col", class: kind, "aria-sort": "none" }, button);
  }

  sort(column) {
    const down = this.sorted?.column === column ? !this.sorted.down : Boolean(column.number);
    this.sorted = { column, down };
    this.columns.forEach((it, at) => {
      if (it.by) this.heads[at].setAttribute("aria-sort", it !== column ? "none" : down ? "descending" : "ascending");
    });
    this.draw();
  }

  /** Show these, and what they are in all; not while somebody's focus is on one of them, which it would be taken from. */
  show(rows, total = null) {
    this.rows = rows;
    this.total = total;
    if (!this.body.contains(document.activeElement)) this.draw();
  }

  draw() {
    const rows = [...this.rows];
    if (this.sorted) {
      const { column, down } = this.sorted;
      rows.sort((a, b) => compare(column.by(a), column.by(b)) * (down ? -1 : 1));
    }
    if (rows.length === 0) {
      const cell = element("td", { colspan: this.columns.length, class: "empty" }, this.empty);
      fill(this.body, element("tr", {}, cell));
      return;
    }
    fill(this.body, rows.map((row) => this.row(row)));
    fill(this.foot, this.total && this.row(this.total));
  }

  row(row) {
    return element(
      "tr",
      {},
      this.columns.map((column, at) =>
        element(
          at === 0 ? "th" : "td",
          {
            scope: at === 0 ? "row" : null,
            class: column.number ? "number" : null,
            "data-title": column.title,
          },
          element("div", {}, column.show(row)),
        ),
      ),
    );
  }
}

const WORDS = new Intl.Collator("en", { numeric: true });

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return -1;
  if (b === null || b === undefined) return 1;
  return typeof a === "number" && typeof b === "number" ? a - b : WORDS.compare(String(a), String(b));
}
