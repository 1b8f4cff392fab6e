import { address, element, fill, link } from "./elements.js";
import { commandButton } from "./command_form.js";
import { facts } from "./facts.js";
import { NOTHING, btc, grouped, moment } from "./figures.js";
import { refreshed } from "./refresh.js";
import { ask } from "./server.js";
import { Table } from "./table.js";

export async function show(place, context, number) {
  if (number) await showBatch(place, context, Number(number));
  else await showAll(place, context);
}

async function showAll(place, context) {
  const load = async () => table.show((await ask("payout.list")).toReversed());
  const table = new Table(
    "Payouts",
    [
      { title: "Batch", show: (it) => link(address("payouts", it.batch), `Batch ${it.batch}`), by: (it) => it.batch },
      { title: "State", show: (it) => it.state, by: (it) => it.state },
      { title: "In all", number: true, show: (it) => btc(it.total_sat), by: (it) => it.total_sat },
      { title: "Payees", number: true, show: (it) => grouped(it.payees ?? it.outputs), by: (it) => it.payees ?? it.outputs },
      { title: "Drafted", show: (it) => [moment(it.created_at_s), ` by ${it.created_by}`], by: (it) => it.created_at_s },
      { title: "Transaction", show: (it) => element("span", { class: "hash" }, it.txid ?? NOTHING) },
    ],
    "Nothing was paid out yet.",
  );
  await refreshed(context, load);
  fill(
    place,
    element("h1", {}, "Payouts"),
    element("div", { class: "tools" }, commandButton(context, "payout.create", "Draft a batch", {}, load)),
    table.element,
  );
}

async function showBatch(place, context, batch) {
  const shown = element("div");
  const outputs = new Table(
    "Who is paid",
    [
      { title: "Tenant", show: (it) => element("b", {}, it.tenant), by: (it) => it.tenant },
      { title: "Amount", number: true, show: (it) => btc(it.amount_sat), by: (it) => it.amount_sat },
      { title: "Address", show: (it) => element("span", { class: "hash" }, it.address), by: (it) => it.address },
    ],
    "Nobody.",
  );
  const load = async () => {
    const it = await ask("payout.show", { batch });
    outputs.show(it.outputs);
    fill(
      shown,
      facts(
        ["State", it.state],
        ["In all", btc(it.total_sat)],
        ["Drafted", [moment(it.created_at_s), ` by ${it.created_by}`]],
        ["Digest of the outputs", element("span", { class: "hash" }, it.digest)],
        ...it.approvals.map((by) => ["Approved", [moment(by.approved_at_s), ` by ${by.approved_by}, for at most ${btc(by.fee_cap_sat)} of fees`]]),
        ...it.attempts.map((at) => [`Transaction ${at.attempt}`, [at.state, " ", element("span", { class: "hash" }, at.txid ?? "")]]),
      ),
      element(
        "div",
        { class: "buttons tools" },
        commandButton(context, "payout.approve", "Approve", { batch, digest: it.digest }, load),
        commandButton(context, "payout.cancel", "Call off", { batch }, load),
      ),
      element("h2", {}, "Who is paid"),
      outputs.element,
      element("h2", {}, "What was done"),
      element(
        "ol",
        { class: "why" },
        it.events.map((event) =>
          element("li", {}, moment(event.done_at_s), ` ${event.state}`, event.done_by && ` by ${event.done_by}`, event.detail && `: ${event.detail}`),
        ),
      ),
    );
  };
  await refreshed(context, load);
  fill(place, element("h1", {}, `Payout batch ${batch}`), shown);
}
