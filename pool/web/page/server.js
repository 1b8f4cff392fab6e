// What is asked of the pool: commands of its table, and live figures. Answers are JSON, refusals are words.

/** Why something was not done, in the pool's words; `over`: the session is. */
export class Refused extends Error {
  constructor(status, code, words) {
    super(words);
    this.status = status;
    this.code = code;
    this.over = status === 401;
  }
}

export const AWAY = "away"; // the code where there is no answer at all
export const UNANSWERED = "unanswered"; // the event of the window then
const RANKS = ["metrics", "tenant", "viewer", "operator", "payer", "admin"];
let table = null;

/** Carry out a command; `glass`: why a change must not wait for anybody. Raises Refused. */
export async function ask(command, parameters = {}, headers = {}, glass = "") {
  const query = glass ? `?${new URLSearchParams({ "break-glass": glass })}` : "";
  return answered(
    fetch(`/api/v1/${command}${query}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Angara": "1", ...headers },
      body: JSON.stringify(parameters),
    }),
  );
}

/** Live figures, by their path behind /api/v1/. Raises Refused. */
export async function look(path, signal) {
  return answered(fetch(`/api/v1/${path}`, { signal }));
}

async function answered(request) {
  let response;
  try {
    response = await request;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    dispatchEvent(new Event(UNANSWERED));
    throw new Refused(0, AWAY, "the pool does not answer");
  }
  const text = await response.text();
  let answer = null;
  try {
    answer = JSON.parse(text);
  } catch {
    // not ours to read: what is between us and the pool has said something
  }
  if (response.ok && answer !== null) return answer;
  throw new Refused(response.status, answer?.code ?? "", answer?.error ?? `the pool answered ${response.status}`);
}

/** What commands there are, by name: their parameters' schema, who may give them, and what they say of themselves. */
export async function commands() {
  if (table === null) {
    const document = await look("openapi.json");
    const schemas = document.components.schemas;
    table = new Map();
    for (const [path, { post }] of Object.entries(document.paths)) {
      if (!post || !post["x-least-role"]) continue;
      const asked = post.requestBody.content["application/json"].schema;
      const name = asked.$ref?.split("/").at(-1);
      table.set(path.split("/").at(-1), {
        schema: schemas[name] ?? asked,
        schemas,
        least: post["x-least-role"],
        guarded: post.parameters.some((it) => it.name === "break-glass"),
        words: post.description ?? "",
      });
    }
  }
  return table;
}

/** Whether somebody of this role may what takes that one. */
export function mayAs(role, least) {
  return RANKS.indexOf(role) >= RANKS.indexOf(least);
}
