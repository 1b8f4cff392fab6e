import { address, element, fill, link } from "./elements.js";
import { commandButton } from "./command_form.js";
import { NOTHING, grouped, hashrate, percentOfBps } from "./figures.js";
import { refreshed } from "./refresh.js";
import { ask } from "./server.js";
import { Table } from "./table.js";

export async function show(place, context) {
  const table = new Table(
    "Tenants",
    [
      { title: "Tenant", show: (it) => link(address("tenant", it.name), it.name), by: (it) => it.name },
      { title: "Status", show: (it) => it.status, by: (it) => it.status },
      { title: "Hashrate, 5 min", number: true, show: (it) => hashrate(it.hps_300s), by: (it) => it.hps_300s },
      { title: "Hashrate, 24 h", number: true, show: (it) => hashrate(it.hps_86400s), by: (it) => it.hps_86400s },
      { title: "Workers", number: true, show: (it) => grouped(it.workers), by: (it) => it.workers },
      { title: "Offline", number: true, show: (it) => grouped(it.offline), by: (it) => it.offline },
      { title: "Scheme", show: (it) => it.scheme, by: (it) => it.scheme },
      { title: "Fee", number: true, show: (it) => percentOfBps(it.fee_bps), by: (it) => it.fee_bps },
      { title: "Mines on", show: (it) => it.upstream ?? "the pool", by: (it) => it.upstream },
      { title: "Payout address", show: (it) => element("span", { class: "hash" }, it.address ?? NOTHING) },
    ],
    "There is no tenant yet.",
  );
  const load = async () => table.show(await ask("tenant.list"));
  await refreshed(context, load);
  fill(
    place,
    element("h1", {}, "Tenants"),
    element("div", { class: "tools" }, commandButton(context, "tenant.add", "Add a tenant", {}, load)),
    table.element,
  );
}
