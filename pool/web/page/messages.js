import { element, fill } from "./elements.js";
import { commandButton } from "./command_form.js";
import { moment } from "./figures.js";
import { refreshed } from "./refresh.js";
import { ask } from "./server.js";
import { Table } from "./table.js";

export async function show(place, context) {
  const load = async () => {
    const rows = await ask("message.list");
    wrong.show(rows.filter((it) => it.kind !== "silence"));
    silenced.show(rows.filter((it) => it.kind === "silence"));
  };
  const wrong = new Table(
    "What is wrong",
    [
      { title: "What", show: (it) => element("b", {}, it.kind), by: (it) => it.kind },
      { title: "Of", show: (it) => it.subject, by: (it) => it.subject },
      { title: "Since", show: (it) => moment(it.since_at_s), by: (it) => it.since_at_s },
      { title: "In words", show: (it) => it.words },
      { title: "Told", show: (it) => (it.told ? "yes" : "not yet"), by: (it) => it.told },
      { title: "Quiet", show: (it) => commandButton(context, "message.silence", "Silence", { subject: it.subject }, load) },
    ],
    "Nothing is wrong that messages are told of.",
  );
  const silenced = new Table(
    "Silences",
    [
      { title: "Of", show: (it) => it.subject, by: (it) => it.subject },
      { title: "Until", show: (it) => moment(it.until_at_s), by: (it) => it.until_at_s },
      { title: "By", show: (it) => it.by, by: (it) => it.by },
      { title: "Reason", show: (it) => it.words },
      { title: "End", show: (it) => commandButton(context, "message.silence", "End it", { subject: it.subject, for_s: 0, reason: "over" }, load) },
    ],
    "Nothing is silenced.",
  );
  await refreshed(context, load);
  fill(place, element("h1", {}, "What is wrong"), wrong.element, element("h2", {}, "Silences"), silenced.element);
}
