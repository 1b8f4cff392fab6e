// What the pool tells by itself: an event stream, opened again whenever it breaks, and a sign of whether
// what is on the screen is of now.

import { element, fill } from "./elements.js";
import { moment } from "./figures.js";

const SILENT_MS = 15_000; // figures come every five seconds
const AGAIN_MS = [1_000, 2_000, 5_000, 10_000, 30_000];
const KINDS = ["figures", "cells", "block", "message", "reset"];

export class Live extends EventTarget {
  constructor() {
    super();
    this.figures = null;
    this.sign = element("span", { class: "live", role: "status" });
    this.heardMs = null;
    this.isLive = null;
    this.failures = 0;
  }

  begin() {
    this.open();
    this.timer = setInterval(() => this.tell(), 1_000);
    this.tell();
  }

  end() {
    clearInterval(this.timer);
    clearTimeout(this.again);
    this.source?.close();
  }

  open() {
    this.source = new EventSource("/api/v1/events");
    for (const kind of KINDS) {
      this.source.addEventListener(kind, (event) => {
        this.heardMs = Date.now();
        this.failures = 0;
        const detail = JSON.parse(event.data);
        if (kind === "figures") this.figures = detail;
        this.dispatchEvent(new CustomEvent(kind, { detail }));
        this.tell();
      });
    }
    this.source.addEventListener("error", () => {
      this.tell();
      if (this.source.readyState !== EventSource.CLOSED) return; // the browser itself tries again
      const wait = AGAIN_MS[Math.min(this.failures++, AGAIN_MS.length - 1)];
      this.again = setTimeout(() => this.open(), wait);
      this.dispatchEvent(new Event("refused")); // the session may be over
    });
  }

  tell() {
    const isLive = this.heardMs !== null && Date.now() - this.heardMs < SILENT_MS;
    if (isLive === this.isLive) return;
    const was = this.isLive;
    this.isLive = isLive;
    this.sign.dataset.live = isLive;
    document.documentElement.dataset.live = isLive;
    if (isLive) fill(this.sign, "live");
    else fill(this.sign, "not live", ...(this.heardMs ? [" since ", moment(this.heardMs / 1000, true)] : []));
    if (isLive && was === false) this.dispatchEvent(new Event("back"));
  }
}
