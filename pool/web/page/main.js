// The frame of the page: who is there, which pages he may see, and the one that the address names.

import { address, element, fill, link } from "./elements.js";
import { hashrate, moment } from "./figures.js";
import { Live } from "./live.js";
import { AWAY, Refused, ask, commands, mayAs } from "./server.js";
import { leave, showLogin, whoIsThere } from "./session.js";

// By the first part of the address. `command`: shown where the pool has it, to who may give it; `some`: and where
// its list has something.
const PAGES = [
  { name: "map", title: "Site map", least: "tenant" },
  { name: "tenants", title: "Tenants", command: "tenant.list" },
  { name: "tenant", title: "Tenant", command: "tenant.show", inner: "tenants" },
  { name: "containers", title: "Containers", command: "container.list" },
  { name: "workers", title: "Workers", command: "worker.list" },
  { name: "history", title: "Hashrate", least: "tenant" },
  { name: "machine", title: "Machine", command: "worker.show", inner: "workers" },
  { name: "blocks", title: "Blocks", command: "block.list" },
  { name: "upstreams", title: "Upstreams", command: "upstream.list" },
  { name: "orders", title: "Orders", command: "order.list" },
  { name: "power", title: "Power", command: "power.now" },
  { name: "edges", title: "Edges", command: "edge.list", some: true },
  { name: "rejects", title: "Shares", command: "reject.show", inner: "tenants" },
  { name: "firmware", title: "Firmware", command: "firmware.list" },
  { name: "payouts", title: "Payouts", command: "payout.list" },
  { name: "statements", title: "Statements", command: "statement.show" },
  { name: "requests", title: "Requests", command: "request.list" },
  { name: "messages", title: "Messages", command: "message.list" },
  { name: "users", title: "Users", command: "user.list" },
  { name: "changes", title: "Changes", command: "change.list" },
];
const SESSION_MS = 5 * 60_000; // a session that nobody asks by for an hour is over
const AGAIN_MS = 3_000; // while the pool does not answer

const page = document.getElementById("page");

async function begin() {
  try {
    const me = await whoIsThere();
    if (me === null || me.refused) showLogin(page, me?.refused && `Not let in: ${me.refused}`, enter);
    else enter(me);
  } catch (error) {
    fill(page, element("main", { class: "gate" }, element("p", { role: "alert" }, error.message)));
    setTimeout(begin, AGAIN_MS);
  }
}

function enter(me) {
  const live = new Live();
  const main = element("main", { id: "content", tabindex: "-1" });
  const nav = element("nav", { "aria-label": "Pages" });
  const total = element("span", { class: "total" });
  const frame = element(
    "div",
    { class: "frame" },
    element("button", { type: "button", class: "skip", click: () => main.focus() }, "To the content"),
    element(
      "header",
      {},
      element("span", { class: "brand" }, "Angara"),
      live.sign,
      total,
      element(
        "span",
        { class: "who" },
        element("button", { type: "button", class: "plain", "aria-label": "Light or dark", title: "Light or dark", click: () => window.switchTheme() }, "◐"),
        element("span", { class: "me" }, `${me.name} (${me.tenant ?? me.role})`),
        element("button", { type: "button", class: "plain", click: leave }, "Log out"),
      ),
    ),
    nav,
    main,
  );
  fill(page, frame);
  live.addEventListener("figures", ({ detail }) => fill(total, hashrate(detail.hashrate_hps), element("span", { class: "quiet" }, ` height ${detail.height ?? "unknown"}`)));
  const news = new News();
  nav.after(news.element);
  live.addEventListener("message", ({ detail }) => news.tell(detail.title, detail.text));
  live.addEventListener("block", ({ detail }) => news.tell(`Block ${detail.height}: ${detail.state}`, detail.hash));
  const ended = async () => {
    const still = await whoIsThere().catch(() => me); // away is not over
    if (still === null || still.refused) location.reload();
  };
  live.addEventListener("refused", ended);
  setInterval(() => !document.hidden && ended(), SESSION_MS);
  live.begin();
  const shown = new Shown({ me, live }, main, nav, ended);
  addEventListener("hashchange", () => shown.show());
  shown.show();
}

/** A page's own file. Raises Refused where the pool does not hand it out. */
async function file(name) {
  try {
    return await import(`./${name}.js`);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    console.warn(error.message);
    throw new Refused(0, AWAY, "the pool does not answer");
  }
}

/** Whether a list has something: what a pool has none of is no page of it. */
async function isSome(command) {
  return (await ask(command, { limit: 1 }).catch(() => [])).length > 0;
}

/** The newest thing that was told, until somebody has seen it. */
class News {
  constructor() {
    this.words = element("p", { role: "status" });
    const seen = () => (this.element.hidden = true);
    this.element = element("aside", { class: "news", "aria-label": "News", hidden: true }, this.words, element("button", { type: "button", class: "plain", click: seen }, "Seen"));
  }

  tell(title, more) {
    this.element.hidden = false;
    fill(this.words, moment(Date.now() / 1000, true), " ", element("b", {}, title), more && ` ${more}`);
  }
}

class Shown {
  constructor(context, main, nav, ended) {
    Object.assign(this, { context, main, nav, ended });
    this.pages = PAGES.filter((it) => it.least);
    this.number = 0;
    this.known = commands().then(
      async (table) => {
        const may = (it) => it.least ?? table.get(it.command)?.least;
        const pages = PAGES.filter((it) => may(it) && mayAs(context.me.role, may(it)));
        this.pages = pages.filter((it) => !it.some);
        this.mark();
        const there = await Promise.all(pages.map((it) => !it.some || isSome(it.command)));
        this.pages = pages.filter((_, at) => there[at]);
        this.mark();
      },
      (error) => console.warn(error.message),
    );
  }

  async show() {
    const [name = "map", ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
    const number = (this.number += 1);
    this.stop?.abort();
    this.stop = new AbortController();
    if (name !== "map" && name !== "") await this.known;
    const found = this.pages.find((it) => it.name === (name || "map"));
    if (number !== this.number) return;
    this.here = found?.inner ?? found?.name;
    this.mark();
    document.title = `${found?.title ?? "Nothing here"} · Angara`;
    if (!found) {
      fill(this.main, element("h1", {}, "Nothing here"), link(address("map"), "To the site map"));
      return;
    }
    const place = element("div", { class: `page ${found.name}`, "aria-busy": "true" });
    fill(this.main, place); // first: what is under another page's name is never this one's
    scrollTo(0, 0);
    try {
      const { show } = await file(found.name);
      if (number !== this.number) return;
      await show(place, { ...this.context, signal: this.stop.signal }, ...rest);
    } catch (error) {
      if (error.name === "AbortError" || number !== this.number) return;
      if (error.over) this.ended();
      fill(place, element("h1", {}, found.title), element("p", { class: "problem", role: "alert" }, error.message));
      if (error.status === undefined) console.error(error);
      if (error.code === AWAY) setTimeout(() => number === this.number && this.show(), AGAIN_MS);
    } finally {
      place.removeAttribute("aria-busy");
    }
  }

  mark() {
    fill(
      this.nav,
      this.pages
        .filter((it) => !it.inner)
        .map((it) => link(address(it.name), it.title, { "aria-current": it.name === this.here ? "page" : null })),
    );
    const here = this.nav.querySelector("[aria-current]");
    if (here) this.nav.scrollLeft = here.offsetLeft - this.nav.clientWidth / 3; // on a phone most are beside the screen
  }
}

// A link with a token, opened where the page is open already.
addEventListener("hashchange", () => location.hash.startsWith("#token=") && location.reload());
begin();
