import { address, element, fill, link } from "./elements.js";
import { commandButton } from "./command_form.js";
import { facts } from "./facts.js";
import { btc, grouped, hashrate, moment, percentOfBps } from "./figures.js";
import { refreshed } from "./refresh.js";
import { ask } from "./server.js";

export async function show(place, context, name) {
  const shown = element("div");
  const load = async () => {
    const it = await ask("tenant.show", { name });
    const soon = it.address_effective_at_s > Date.now() / 1000;
    fill(
      shown,
      facts(
        ["Status", it.status],
        ["Hashrate, 5 min", hashrate(it.hps_300s)],
        ["Hashrate, 1 h", hashrate(it.hps_3600s)],
        ["Hashrate, 24 h", hashrate(it.hps_86400s)],
        ["Workers", grouped(it.workers)],
        ["Offline", it.offline === undefined ? undefined : grouped(it.offline)],
        ["Shares accepted since the start", it.accepted === undefined ? undefined : grouped(it.accepted)],
        ["Shares rejected since the start", it.accepted === undefined ? undefined : grouped(it.stale + it.duplicate + it.low + it.invalid)],
        ["Shares in the books", grouped(it.booked_accepted)],
        ["Scheme", it.scheme],
        ["Fee", percentOfBps(it.fee_bps)],
        ["Least payout", btc(it.payout_minimum_sat)],
        ["Mines on", it.upstream ?? "the pool"],
        ["Payout address", element("span", { class: "hash" }, it.address ?? "none yet")],
        soon ? ["It is paid to from", moment(it.address_effective_at_s)] : null,
        ["Blocks found in 90 days", grouped(it.blocks_found_90d)],
        ["Tenant since", moment(it.created_at_s)],
      ),
      element(
        "div",
        { class: "buttons" },
        link(address("workers", "", it.name), "Its workers"),
        link(address("rejects", "tenant", it.name), "What became of its shares"),
        link(address("statements", it.name), "Its statements"),
      ),
      element(
        "div",
        { class: "buttons tools" },
        commandButton(context, "tenant.set-status", it.status === "active" ? "Suspend" : "Let mine again", { name, active: it.status !== "active" }, load),
        commandButton(context, "tenant.set-terms", "Change terms", { name }, load),
        commandButton(context, "tenant.set-address", "Change payout address", { name }, load),
      ),
    );
  };
  await refreshed(context, load);
  fill(place, element("h1", {}, `Tenant ${name}`), shown);
}
