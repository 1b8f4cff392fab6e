// What is known of one thing, as a list of terms.

import { element } from "./elements.js";
import { NOTHING, moment } from "./figures.js";

/** `pairs` of a term and what is shown; one that is undefined is left out. */
export function facts(...pairs) {
  return element(
    "dl",
    {},
    pairs
      .filter((it) => it && it[1] !== undefined)
      .map(([term, value]) => element("div", {}, element("dt", {}, term), element("dd", {}, value ?? NOTHING))),
  );
}

/** A state before and after: what differs, and for who asks what stays. */
export function difference(was, became) {
  const names = [...new Set([...Object.keys(was ?? {}), ...Object.keys(became ?? {})])];
  const stays = names.filter((it) => was && became && it in was && JSON.stringify(was[it]) === JSON.stringify(became[it]));
  return element(
    "div",
    { class: "difference" },
    names
      .filter((it) => !stays.includes(it))
      .map((name) =>
        element(
          "div",
          {},
          element("span", { class: "quiet" }, `${name}: `),
          was && name in was ? element("del", {}, shown(name, was[name])) : null,
          was && became && name in was && name in became ? " → " : null,
          became && name in became ? element("ins", {}, shown(name, became[name])) : null,
        ),
      ),
    stays.length > 0 &&
      element(
        "details",
        {},
        element("summary", {}, "What stays as it is"),
        stays.map((name) => element("div", {}, element("span", { class: "quiet" }, `${name}: `), shown(name, was[name]))),
      ),
  );
}

function shown(name, value) {
  if (value === null) return "nothing";
  if (name.endsWith("_at_s") && typeof value === "number") return moment(value);
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value) || Object.keys(value).length === 0) return JSON.stringify(value);
  return Object.entries(value).map(([key, part]) => element("div", { class: "part" }, `${key}: `, shown(key, part)));
}
