import { element, fill } from "./elements.js";
import { commandButton } from "./command_form.js";
import { grouped, hashrate, moment, percent, ths } from "./figures.js";
import { refreshed } from "./refresh.js";
import { ask } from "./server.js";
import { Table } from "./table.js";

export async function show(place, context) {
  const load = async () => table.show((await ask("order.list")).toReversed());
  const table = new Table(
    "Orders",
    [
      { title: "Order", show: (it) => element("b", {}, it.name), by: (it) => it.name },
      {
        title: "State",
        show: (it) => element("span", { class: it.state === "short" ? "trouble" : null }, it.state),
        by: (it) => it.state,
      },
      { title: "Sold", number: true, show: (it) => ths(it.hashrate_ths), by: (it) => it.hashrate_ths },
      {
        title: "Delivered now",
        number: true,
        show: (it) => (it.supply_hps === undefined ? "–" : `${hashrate(it.supply_hps)} (${percent(it.supply_hps / 1e12, it.hashrate_ths)})`),
        by: (it) => it.supply_hps,
      },
      { title: "Machines", number: true, show: (it) => grouped(it.machines), by: (it) => it.machines },
      { title: "Price", number: true, show: (it) => `${grouped(it.sat_per_ph_day)} sat/PH/d`, by: (it) => it.sat_per_ph_day },
      { title: "Upstream", show: (it) => it.upstream, by: (it) => it.upstream },
      { title: "Buyer", show: (it) => it.buyer, by: (it) => it.buyer },
      { title: "From", show: (it) => moment(it.from_s), by: (it) => it.from_s },
      { title: "Until", show: (it) => moment(it.until_s), by: (it) => it.until_s },
      {
        title: "Change",
        show: (it) => (it.state === "ended" ? "" : commandButton(context, "order.end", "End it", { name: it.name }, load)),
      },
    ],
    "Nothing was sold yet.",
  );
  await refreshed(context, load);
  fill(
    place,
    element("h1", {}, "Orders"),
    element("div", { class: "tools" }, commandButton(context, "order.add", "Sell computing power", {}, load)),
    table.element,
  );
}
