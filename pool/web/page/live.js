// What the pool tells by itself: an event stream, opened again whenever it breaks, and a sign of whether
// what is on the screen is of now.

import { element, fill } from "./elements.js";
import { moment } from "./figures.js";
import { UNANSWERED, look } from "./server.js";

const SILENT_MS = 15_000; // figures come every five seconds
const LOST_MS = 2_000; // what is lost once is no news: by then a stream is open again, and a request answered
const ASK_MS = 1_000;
const AGAIN_MS = [1_000, 2_000, 5_000, 10_000, 30_000];
const KINDS = ["figures", "cells", "block", "message", "reset"];

export class Live extends EventTarget {
  constructor() {
    super();
    this.figures = null;
    this.sign = element("span", { class: "live", role: "status" });
    this.heardMs = null;
    this.lostMs = null; // since when there is no stream, or no answer
    this.isLive = null;
    this.failures = 0;
  }

  begin() {
    this.open();
    addEventListener(UNANSWERED, () => this.doubt());
    setInterval(() => this.tell(), 1_000);
    this.tell();
  }

  open() {
    this.source = new EventSource("/api/v1/events");
    this.source.addEventListener("open", () => (this.lostMs = null));
    for (const kind of KINDS) {
      this.source.addEventListener(kind, (event) => {
        this.heardMs = Date.now();
        this.lostMs = null;
        this.failures = 0;
        const detail = JSON.parse(event.data);
        if (kind === "figures") this.figures = detail;
        this.dispatchEvent(new CustomEvent(kind, { detail }));
        this.tell();
      });
    }
    this.source.addEventListener("error", () => {
      this.lostMs ??= Date.now();
      this.tell();
      if (this.source.readyState !== EventSource.CLOSED) return; // the browser itself tries again
      const wait = AGAIN_MS[Math.min(this.failures++, AGAIN_MS.length - 1)];
      setTimeout(() => this.open(), wait);
      this.dispatchEvent(new Event("refused")); // the session may be over
    });
  }

  /** A request had no answer: the next one says whether it was that one alone. */
  doubt() {
    if (this.lostMs !== null) return;
    this.lostMs = Date.now();
    const answered = () => (this.lostMs = null);
    setTimeout(() => look("session").then(answered, () => {}), ASK_MS);
  }

  tell() {
    const now = Date.now();
    const heard = this.heardMs !== null && now - this.heardMs < SILENT_MS;
    const isLive = heard && (this.lostMs === null || now - this.lostMs < LOST_MS);
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
