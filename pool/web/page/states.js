// What a machine does, in a letter: its word, its colour, and a shape for who does not tell the colours apart.

import { element } from "./elements.js";

export const STATES = {
  m: { word: "mining", colour: "--mining" },
  s: { word: "slow", colour: "--slow" },
  r: { word: "rejecting", colour: "--rejecting" },
  o: { word: "offline", colour: "--offline" },
  n: { word: "never seen", colour: "--never" },
};

/** Draws one cell of `size` pixels at x, y. */
export function drawCell(context, colours, letter, x, y, size) {
  context.fillStyle = context.strokeStyle = colours[letter];
  const edge = Math.max(1, size / 8);
  context.lineWidth = edge;
  if (letter === "m") context.fillRect(x, y, size, size);
  else if (letter === "s") {
    // half of it is there
    context.fillRect(x, y + size / 2, size, size / 2);
    context.strokeRect(x + edge / 2, y + edge / 2, size - edge, size - edge);
  } else if (letter === "r") {
    context.fillRect(x, y, size, size);
    context.strokeStyle = colours.page;
    context.lineWidth = Math.max(1.5, size / 6);
    context.beginPath();
    context.moveTo(x + size * 0.2, y + size * 0.2);
    context.lineTo(x + size * 0.8, y + size * 0.8);
    context.moveTo(x + size * 0.8, y + size * 0.2);
    context.lineTo(x + size * 0.2, y + size * 0.8);
    context.stroke();
  } else if (letter === "o") {
    context.lineWidth = Math.max(1.5, size / 6);
    context.strokeRect(x + context.lineWidth / 2, y + context.lineWidth / 2, size - context.lineWidth, size - context.lineWidth);
  } else context.fillRect(x + size * 0.38, y + size * 0.38, size * 0.24, size * 0.24);
}

export function coloursOf(place) {
  const style = getComputedStyle(place);
  const colours = Object.fromEntries(
    Object.entries(STATES).map(([letter, { colour }]) => [letter, style.getPropertyValue(colour)]),
  );
  return { ...colours, page: style.getPropertyValue("--tile"), mark: style.getPropertyValue("--text") };
}

/** The shape with its word. */
export function stateSign(letter, words) {
  const state = STATES[letter];
  if (!state) return "";
  return element("span", { class: "state", "data-state": letter }, symbol(letter), words ?? state.word);
}

function symbol(letter) {
  const NS = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(NS, "svg");
  const add = (name, attributes) => {
    const part = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) part.setAttribute(key, value);
    svg.append(part);
  };
  svg.setAttribute("viewBox", "0 0 12 12");
  svg.setAttribute("aria-hidden", "true");
  if (letter === "m") add("rect", { width: 12, height: 12, class: "full" });
  if (letter === "s") {
    add("rect", { x: 0, y: 6, width: 12, height: 6, class: "full" });
    add("rect", { x: 0.75, y: 0.75, width: 10.5, height: 10.5, class: "edge" });
  }
  if (letter === "r") {
    add("rect", { width: 12, height: 12, class: "full" });
    add("path", { d: "M2.5 2.500 9.500 9.500M9.500 2.500 2.500 9.500", class: "cross" });
  }
  if (letter === "o") add("rect", { x: 1, y: 1, width: 10, height: 10, class: "edge thick" });
  if (letter === "n") add("rect", { x: 4.5, y: 4.5, width: 3, height: 3, class: "full" });
  return svg;
}
