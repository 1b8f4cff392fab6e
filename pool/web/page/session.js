// Who has logged in, and the form for who has not. A token is never kept: a cookie stands for it, that no
// script can read. A link with a token in it (#token=...) logs in, and is taken out of the address at once.

import { element, fill } from "./elements.js";
import { Refused, ask, look } from "./server.js";

/** Who that is: {name, role, tenant, expires_at_s}; null for nobody. Raises Refused where the pool is away. */
export async function whoIsThere() {
  const shown = tokenOfAddress();
  try {
    if (shown !== null) return await ask("login", { token: shown });
    const who = await look("session");
    return who.name === null ? null : who;
  } catch (error) {
    if (shown === null && !error.over) throw error;
    return shown === null ? null : { refused: error.message };
  }
}

function tokenOfAddress() {
  const found = /^#token=(.+)$/.exec(location.hash);
  if (found === null) return null;
  history.replaceState(null, "", location.pathname); // neither on a screen nor in the history
  return decodeURIComponent(found[1]);
}

export async function leave() {
  try {
    await ask("logout");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
  }
  location.reload();
}

/** Ask for a token until one is right; `entered` is told who it is. */
export function showLogin(page, words, entered) {
  const field = element("input", {
    id: "token",
    name: "token",
    type: "password",
    autocomplete: "current-password",
    required: true,
    spellcheck: "false",
    "aria-describedby": "login-help",
  });
  const problem = element("p", { class: "problem", role: "alert" }, words ?? "");
  const button = element("button", { class: "primary" }, "Log in");
  const form = element(
    "form",
    {
      class: "login",
      submit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        try {
          entered(await ask("login", { token: field.value.trim() }));
        } catch (error) {
          fill(problem, `Not let in: ${error.message}`);
          field.select();
        } finally {
          button.disabled = false;
        }
      },
    },
    element("h1", {}, "Angara"),
    element("label", { for: "token" }, "Token"),
    field,
    problem,
    button,
    element(
      "p",
      { id: "login-help", class: "quiet" },
      "Whoever runs the pool makes one on its host: ",
      element("code", {}, "angara token create LABEL --user NAME"),
    ),
  );
  fill(page, element("main", { class: "gate" }, form));
  field.focus();
}
