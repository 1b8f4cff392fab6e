// A form for any command of the table: its fields are the command's parameters, as the pool describes them.

import { address, element, fill, link } from "./elements.js";
import { Refused, ask, commands, mayAs } from "./server.js";

const UNITS = [
  ["target_value", "W that are drawn at most, hundredths of a percent less, or thousandths of a satoshi for a kWh"],
  ["_sat_per_ph_day", "satoshi for a PH/s and day"],
  ["sat_per_ph_day", "satoshi for a PH/s and day"],
  ["_bps", "hundredths of a percent"],
  ["_sat", "satoshi"],
  ["_at_s", "Unix seconds"],
  ["from_s", "Unix seconds"],
  ["until_s", "Unix seconds"],
  ["_s", "seconds"],
  ["_ths", "TH/s"],
  ["ths", "TH/s"],
  ["kw", "kW"],
];

/**
 * A button that opens the command's form; nothing for who may not give the command. With a `plan` the form shows
 * what the command would do before it is given, and gives it as shown: `ask(parameters)` is what it would do,
 * `show(it)` that as elements, and `alike(one, other)` whether who has seen the one has seen the other.
 */
export function commandButton(context, command, words, given = {}, done = () => {}, plan = null) {
  const place = element("span", { class: "command" });
  commands().then(
    (table) => {
      const known = table.get(command);
      if (!known || !mayAs(context.me.role, known.least)) return;
      const glass = known.guarded && mayAs(context.me.role, "admin");
      const open = () => openForm(command, known, words, given, done, glass, plan);
      place.append(element("button", { type: "button", click: open }, words));
    },
    () => {}, // who cannot be told what there is gives no command either
  );
  return place;
}

/** `given` parameters are shown, and not asked for; `glass`: he may say why it must not wait for a second person. */
function openForm(command, known, words, given, done, glass, plan) {
  const fields = Object.entries(known.schema.properties ?? {}).filter(([name]) => !(name in given));
  const inputs = fields.map(([name, schema]) => [name, ...field(name, schema, known)]);
  const problem = element("p", { class: "problem", role: "alert" });
  const why = element("input", { id: "break-glass", type: "text", autocomplete: "off", "aria-describedby": "glass-help" });
  const close = () => dialog.close();
  const first = plan ? "Show the plan" : words;
  const send = element("button", { class: "primary" }, first);
  const shown = element("div", { class: "plan", "aria-live": "polite" });
  let seen = null; // the plan that stands there, and of what
  const unseen = () => {
    seen = null;
    fill(shown);
    fill(send, first);
  };
  const key = anyKey(); // the same for each try of this form: what was done once is not done again
  const form = element(
    "form",
    {
      submit: async (event) => {
        event.preventDefault();
        send.disabled = true;
        try {
          const parameters = { ...given };
          for (const [name, input, , schema] of inputs) {
            const value = valueOf(input, schema);
            if (value !== undefined) parameters[name] = value;
          }
          if (plan) {
            const of = JSON.stringify(parameters);
            const would = await plan.ask(parameters);
            const before = seen;
            seen = { of, would };
            if (before?.of !== of || !plan.alike(before.would, would)) {
              const another = before?.of === of ? element("p", { class: "trouble" }, "It would do something else by now: look again.") : null;
              fill(shown, another, plan.show(would));
              fill(send, `${words}, as shown`);
              fill(problem);
              shown.scrollIntoView({ block: "nearest" });
              return;
            }
          }
          const answer = await ask(command, parameters, { "Idempotency-Key": key }, why.value.trim());
          close();
          document.getElementById("content").focus({ preventScroll: true }); // no table waits for who is in it
          done(answer);
          if (answer?.request?.id) showRequest(answer);
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
          if (plan) unseen();
          fill(problem, error.message);
        } finally {
          send.disabled = false;
        }
      },
    },
    element("h2", { id: "form-title" }, words),
    firstSentence(known.words) && element("p", { class: "quiet" }, firstSentence(known.words)),
    Object.entries(given).map(([name, value]) =>
      element("p", { class: "given" }, element("span", { class: "quiet" }, `${label(name)} `), element("b", {}, String(value))),
    ),
    element("div", plan ? { input: unseen, change: unseen } : {}, inputs.map(([, , row]) => row)),
    shown,
    glass &&
      element(
        "details",
        {},
        element("summary", {}, "It must not wait for a second person"),
        element("p", { class: "field" }, element("label", { for: "break-glass" }, "Why"), why),
        element("p", { id: "glass-help", class: "quiet" }, "It is done at once. The reason is in the history for ever, and everybody who gets messages is told."),
      ),
    problem,
    element("div", { class: "buttons" }, element("button", { type: "button", click: close }, "Cancel"), send),
  );
  const dialog = element("dialog", { class: plan && "wide", "aria-labelledby": "form-title", close: () => dialog.remove() }, form);
  document.body.append(dialog);
  dialog.showModal();
}

/** What was asked for waits for somebody else. */
function showRequest({ request, words }) {
  const close = () => dialog.close();
  const dialog = element(
    "dialog",
    { "aria-labelledby": "form-title", close: () => dialog.remove() },
    element("h2", { id: "form-title" }, `Request ${request.id}`),
    element("p", {}, words),
    element("div", { class: "buttons" }, link(address("requests", request.id), "To the request", { click: close }), element("button", { type: "button", click: close }, "Good")),
  );
  document.body.append(dialog);
  dialog.showModal();
}

function field(name, schema, known) {
  const { kind, options, nullable } = shape(schema, known.schemas);
  const required = (known.schema.required ?? []).includes(name);
  const id = `field-${name}`;
  const unit = UNITS.find(([end]) => name.endsWith(end))?.[1];
  let input;
  if (kind === "boolean" || options) {
    const values = options ?? ["true", "false"];
    const none = required && !nullable ? [] : [element("option", { value: "" }, "as it is")];
    input = element("select", { id, name }, none, values.map((it) => element("option", { value: it }, it)));
  } else {
    const list = kind === "array";
    input = element("input", {
      id,
      name,
      type: "text",
      inputmode: kind === "integer" || kind === "number" ? "numeric" : null,
      required: required && !list,
      placeholder: schema.default === null || schema.default === undefined ? null : JSON.stringify(schema.default),
      autocomplete: "off",
      spellcheck: "false",
    });
  }
  const said = [label(name), unit && ` (${unit})`, kind === "array" && " (with commas between them)"];
  const row = element("p", { class: "field" }, element("label", { for: id }, said), input);
  return [input, row, kind];
}

function shape(schema, schemas) {
  const resolved = schema.$ref ? schemas[schema.$ref.split("/").at(-1)] : schema;
  const choices = resolved.anyOf ?? [resolved];
  const nullable = choices.some((it) => it.type === "null");
  const first = choices.find((it) => it.type !== "null") ?? resolved;
  const real = first.$ref ? schemas[first.$ref.split("/").at(-1)] : first;
  return { kind: real.type, options: real.enum, nullable };
}

function valueOf(input, kind) {
  const text = input.value.trim();
  if (text === "") return undefined;
  if (kind === "boolean") return text === "true";
  if (kind === "integer" || kind === "number") return Number.isFinite(Number(text)) ? Number(text) : text;
  if (kind === "array") return text.split(",").map((it) => it.trim()).filter(Boolean);
  return input.value;
}

function label(name) {
  return name.replace(/_(sat_per_ph_day|bps|sat|at_s|s|ths)$/, "").replaceAll("_", " ");
}

function firstSentence(words) {
  return /^[^.]*\./.exec(words)?.[0] ?? "";
}

function anyKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (it) => it.toString(16).padStart(2, "0")).join("");
}
