import { element, fill } from "./elements.js";
import { commandButton } from "./command_form.js";
import { NOTHING, moment } from "./figures.js";
import { refreshed } from "./refresh.js";
import { ask } from "./server.js";
import { Table } from "./table.js";

export async function show(place, context) {
  const load = async () => {
    users.show(await ask("user.list"));
    tokens.show((await ask("token.list")).toReversed());
  };
  const users = new Table(
    "Users",
    [
      { title: "User", show: (it) => element("b", {}, it.name), by: (it) => it.name },
      { title: "Role", show: (it) => (it.tenant ? `${it.role} (${it.tenant})` : it.role), by: (it) => it.role },
      { title: "Status", show: (it) => it.status, by: (it) => it.status },
      { title: "Account on the host", show: (it) => it.account ?? NOTHING, by: (it) => it.account },
      { title: "Added", show: (it) => [moment(it.created_at_s), ` by ${it.created_by}`], by: (it) => it.created_at_s },
      {
        title: "Change",
        show: (it) =>
          element(
            "div",
            { class: "buttons" },
            commandButton(context, "user.set-role", "Role", { name: it.name }, load),
            commandButton(context, "user.set-status", it.status === "active" ? "Suspend" : "Let in again", { name: it.name, active: it.status !== "active" }, load),
          ),
      },
    ],
    "There is no user yet.",
  );
  const tokens = new Table(
    "Tokens",
    [
      { title: "Token", show: (it) => `${it.id}: ${it.label}`, by: (it) => it.id },
      { title: "User", show: (it) => it.user, by: (it) => it.user },
      { title: "Scope", show: (it) => it.scope, by: (it) => it.scope },
      { title: "Last used", show: (it) => moment(it.last_used_at_s), by: (it) => it.last_used_at_s },
      { title: "Ends", show: (it) => (it.revoked_at_s ? ["revoked ", moment(it.revoked_at_s)] : moment(it.expires_at_s)), by: (it) => it.revoked_at_s ?? it.expires_at_s },
    ],
    "There is no token that you may see.",
  );
  await refreshed(context, load);
  fill(
    place,
    element("h1", {}, "Users"),
    element("div", { class: "tools" }, commandButton(context, "user.add", "Add a user", {}, load)),
    users.element,
    element("h2", {}, "Tokens"),
    element("p", { class: "quiet" }, "A token makes no tokens and revokes none but itself: that is done on the pool's host, with angara token."),
    tokens.element,
  );
}
