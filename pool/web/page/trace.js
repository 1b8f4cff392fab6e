// The lines between one machine and the pool as they pass. Who looked is written down.

import { element, fill } from "./elements.js";
import { commands, mayAs, ask } from "./server.js";

const ASK_MS = 1_000;
const LINES_MAX = 1_000; // on the screen; the pool itself keeps fewer
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const WAYS = { in: "from the miner", out: "to the miner", note: "the pool" };

export class Trace {
  constructor(context, name) {
    Object.assign(this, { context, name });
    this.button = element("span", { class: "command" });
    this.lines = element("ol", { class: "lines", tabindex: "0", "aria-label": "Lines" });
    this.status = element("p", { role: "status", class: "quiet" });
    this.element = element("section", { hidden: true }, element("h2", {}, "Lines as they pass"), this.status, this.lines);
    commands().then(
      (table) => {
        const known = table.get("trace.start");
        if (!known || !mayAs(context.me.role, known.least)) return;
        this.start = element("button", { type: "button", click: () => this.begin() }, "Show its lines");
        this.button.append(this.start);
      },
      () => {},
    );
  }

  async begin() {
    this.start.disabled = true;
    this.element.hidden = false;
    fill(this.lines);
    fill(this.status, "Asked for: lines come as they pass.");
    try {
      const { trace, seconds } = await ask("trace.start", { name: this.name });
      fill(this.status, `Lines of the next ${seconds / 60} minutes. That you looked is written down.`);
      await this.follow(trace);
      fill(this.status, "It is over.");
    } catch (error) {
      fill(this.status, error.message);
    } finally {
      this.start.disabled = false;
    }
  }

  async follow(trace) {
    let after = 0;
    while (!this.context.signal.aborted) {
      const { lines, missed, over } = await ask("trace.show", { trace, after });
      if (over) return;
      if (missed) this.lines.append(element("li", { class: "quiet" }, `${missed} lines are missing here`));
      for (const line of lines) {
        after = line.number;
        this.lines.append(
          element(
            "li",
            {},
            element("span", { class: "quiet" }, `${CLOCK.format(new Date(line.at_ms))} ${WAYS[line.way] ?? line.way} `),
            line.text,
            line.words ? element("span", { class: "quiet" }, ` (${line.words})`) : null,
          ),
        );
      }
      while (this.lines.childElementCount > LINES_MAX) this.lines.firstElementChild.remove();
      if (lines.length) this.lines.scrollTop = this.lines.scrollHeight;
      await new Promise((resolve) => setTimeout(resolve, ASK_MS));
    }
  }
}
