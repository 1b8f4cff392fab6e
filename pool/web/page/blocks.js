import { address, element, fill, link } from "./elements.js";
import { NOTHING, btc, grouped, moment } from "./figures.js";
import { refreshed } from "./refresh.js";
import { ask } from "./server.js";
import { Table } from "./table.js";

export async function show(place, context) {
  const load = async () => table.show((await ask("block.list")).toReversed());
  const table = new Table(
    "Blocks",
    [
      { title: "Height", show: (it) => grouped(it.height), by: (it) => it.height },
      { title: "Found", show: (it) => moment(it.found_at_s), by: (it) => it.found_at_s },
      { title: "State", show: (it) => it.status, by: (it) => it.status },
      { title: "By", show: (it) => (it.worker ? link(address("machine", it.worker), it.worker) : NOTHING), by: (it) => it.worker },
      { title: "Pays the pool", number: true, show: (it) => btc(it.income_sat), by: (it) => it.income_sat },
      { title: "Pays a tenant", number: true, show: (it) => (it.solo_tenant === null ? NOTHING : `${btc(it.solo_sat)} ${it.solo_tenant}`), by: (it) => it.solo_sat },
      { title: "Divided", number: true, show: (it) => (it.divided_by === null ? NOTHING : `${it.divided_sat === null ? "" : btc(it.divided_sat)} ${it.divided_by}`), by: (it) => it.divided_sat },
      { title: "Hash", show: (it) => element("span", { class: "hash" }, it.hash) },
    ],
    "No block was found yet.",
  );
  context.live.addEventListener("block", () => load().catch(() => {}), { signal: context.signal });
  await refreshed(context, load);
  fill(place, element("h1", {}, "Blocks"), table.element);
}
