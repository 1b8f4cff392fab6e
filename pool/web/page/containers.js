import { address, element, fill, link } from "./elements.js";
import { commandButton } from "./command_form.js";
import { NOTHING, grouped, hashrate, percent, ths } from "./figures.js";
import { refreshed } from "./refresh.js";
import { ask } from "./server.js";
import { Table } from "./table.js";

export async function show(place, context) {
  const load = async () => table.show(await ask("container.list"));
  const table = new Table(
    "Containers",
    [
      {
        title: "Container",
        show: (it) => link(address("workers", "", it.tenant, it.name), [it.tenant, it.name].filter(Boolean).join(".")),
        by: (it) => `${it.tenant}.${it.name}`,
      },
      { title: "Site", show: (it) => it.site ?? NOTHING, by: (it) => it.site },
      { title: "Hashrate, 5 min", number: true, show: (it) => hashrate(it.hps_300s), by: (it) => it.hps_300s },
      { title: "Nameplate", number: true, show: (it) => ths(it.ths), by: (it) => it.ths },
      {
        title: "Of nameplate",
        number: true,
        show: (it) => percent((it.hps_300s ?? 0) / 1e12, it.ths),
        by: (it) => (it.ths ? (it.hps_300s ?? 0) / it.ths : null),
      },
      { title: "Workers", number: true, show: (it) => grouped(it.workers), by: (it) => it.workers },
      { title: "Offline", number: true, show: (it) => grouped(it.offline), by: (it) => it.offline },
      { title: "Units", number: true, show: (it) => grouped(it.units), by: (it) => it.units },
      { title: "Power", number: true, show: (it) => (it.kw === null ? NOTHING : `${grouped(it.kw)} kW`), by: (it) => it.kw },
      {
        title: "Nameplate of it",
        show: (it) => commandButton(context, "container.set", "Change", { tenant: it.tenant, name: it.name }, load),
      },
    ],
    "There is no container yet: each is known from its first machine on.",
  );
  await refreshed(context, load);
  fill(
    place,
    element("h1", {}, "Containers"),
    element("div", { class: "tools" }, commandButton(context, "container.set", "Add a container", {}, load)),
    table.element,
  );
}
