import { address, element, fill, link } from "./elements.js";
import { commandButton } from "./command_form.js";
import { NOTHING, duration, grouped } from "./figures.js";
import { refreshed } from "./refresh.js";
import { ask } from "./server.js";
import { Table } from "./table.js";

export async function show(place, context) {
  const load = async () => table.show(await ask("upstream.list"));
  const table = new Table(
    "Upstreams",
    [
      { title: "Upstream", show: (it) => element("b", {}, it.name), by: (it) => it.name },
      {
        title: "Now",
        show: (it) =>
          (it.channels ?? []).length === 0
            ? "nobody mines on it"
            : it.channels.map((channel) =>
                element(
                  "div",
                  {},
                  channel.serving
                    ? `${channel.serving} for ${duration(channel.since_s)}, ${grouped(channel.sessions)} machines`
                    : element("span", { class: "trouble" }, `down for ${duration(channel.since_s)}`),
                  channel.diverted ? element("span", { class: "trouble" }, ", its machines are on the fallback") : null,
                  channel.unanswered ? `, ${grouped(channel.unanswered)} shares unanswered` : null,
                ),
              ),
      },
      {
        title: "Endpoints",
        show: (it) => it.endpoints.map((end) => element("div", {}, `${end.number}. ${end.address} as ${end.user}${end.tls ? ", TLS" : ""}`, state(it, end))),
      },
      { title: "Fallback", show: (it) => it.fallback ?? NOTHING, by: (it) => it.fallback },
      {
        title: "Change",
        show: (it) =>
          element(
            "div",
            { class: "buttons" },
            link(address("rejects", "upstream", it.name), "Its answers"),
            commandButton(context, "upstream.switch", "Switch endpoint", { name: it.name }, load),
            commandButton(context, "upstream.remove", "Remove", { name: it.name }, load),
          ),
      },
    ],
    "There is no upstream: all machines mine for the pool itself.",
  );
  await refreshed(context, load);
  fill(place, element("h1", {}, "Upstreams"), table.element);
}

function state(upstream, end) {
  const found = (upstream.channels ?? []).flatMap((it) => it.endpoints).find((it) => it.address === end.address);
  if (!found || found.state === "idle") return null;
  const words = ` ${found.state}${found.reason ? `: ${found.reason}` : ""}`;
  return element("span", { class: found.state === "down" ? "trouble" : "quiet" }, words);
}
