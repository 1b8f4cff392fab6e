import { address, element, fill, link } from "./elements.js";
import { commandButton } from "./command_form.js";
import { facts } from "./facts.js";
import { NOTHING, btc, grouped, moment } from "./figures.js";
import { refreshed } from "./refresh.js";
import { ask } from "./server.js";
import { Table } from "./table.js";

// By a batch's state. What needs the signer is done where files are: on the pool's host.
const NEXT = {
  draft: () => "Somebody else than who drafted it approves it, here or on the pool's host.",
  approved: (batch) => command(`angara payout export ${batch} --out batch.psbt`, "; the signer gets the file."),
  psbt: (batch) => command(`angara payout import ${batch} signed.psbt`, ", when the signer has given it back."),
  signed: (batch) => command(`angara payout broadcast ${batch}`, "."),
  broadcast: () => "Nothing: the pool follows it, to six confirmations.",
  confirmed: () => "Nothing: the pool follows it, to six confirmations.",
};

const OVER = ["confirmed", "final", "failed"]; // nobody approves these
const UNSIGNED = ["draft", "approved", "psbt"]; // these may be called off

function command(line, rest) {
  return ["On the pool's host: ", element("code", {}, line), rest];
}

export async function show(place, context, number) {
  if (number) await showBatch(place, context, Number(number));
  else await showAll(place, context);
}

async function showAll(place, context) {
  const load = async () => {
    table.show((await ask("payout.list")).toReversed());
    const plan = await ask("payout.preview");
    fill(due, `Payable now: ${btc(plan.total_sat)} to ${grouped(plan.payees.length)}.`);
    held.show(plan.held_back);
  };
  const due = element("p");
  const held = new Table(
    "Held back",
    [
      { title: "Tenant", show: (it) => link(address("tenant", it.tenant), it.tenant), by: (it) => it.tenant },
      { title: "Balance", number: true, show: (it) => btc(it.balance_sat), by: (it) => it.balance_sat },
      { title: "Why", show: (it) => it.why, by: (it) => it.why },
    ],
    "Nobody's balance is held back.",
  );
  const table = new Table(
    "Payouts",
    [
      { title: "Batch", show: (it) => link(address("payouts", it.batch), `Batch ${it.batch}`), by: (it) => it.batch },
      { title: "State", show: (it) => it.state, by: (it) => it.state },
      { title: "In all", number: true, show: (it) => btc(it.amount_sat), by: (it) => it.amount_sat },
      { title: "Payees", number: true, show: (it) => grouped(it.payees), by: (it) => it.payees },
      { title: "Network's fee", number: true, show: (it) => btc(it.fee_sat), by: (it) => it.fee_sat },
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
    element("h2", {}, "What comes next"),
    due,
    held.element,
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
        ["What comes next", NEXT[it.state]?.(batch)],
        ["In all", btc(it.total_sat)],
        ["Drafted", [moment(it.created_at_s), ` by ${it.created_by}`]],
        ["Digest of the outputs", element("span", { class: "hash" }, it.digest)],
        ...it.approvals.map((by) => ["Approved", [moment(by.approved_at_s), ` by ${by.approved_by}, for at most ${btc(by.fee_cap_sat)} of fees`]]),
        ...it.attempts.map((at) => [`Transaction ${at.attempt}`, [at.state, " ", element("span", { class: "hash" }, at.txid ?? "")]]),
      ),
      element(
        "div",
        { class: "buttons tools" },
        !OVER.includes(it.state) && commandButton(context, "payout.approve", "Approve", { batch, digest: it.digest }, load),
        UNSIGNED.includes(it.state) && commandButton(context, "payout.cancel", "Call off", { batch }, load),
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
