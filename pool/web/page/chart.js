// A chart over time, by uPlot; in the page's colours, as wide as its place.

import uPlot from "./uPlot.esm.js";
import { element } from "./elements.js";
import { NOTHING, moment } from "./figures.js";
import { Table } from "./table.js";

const HEIGHT = 200;
const BAR_MAX = 48;
const ALONE_S = 1_800; // on either side of a moment that is the only one
const LETTER = 7; // of the axes' font

// Its sheet comes with it, so that no page without a chart waits for it.
await new Promise((resolve) => {
  const href = new URL("uPlot.min.css", import.meta.url).href;
  document.head.append(element("link", { rel: "stylesheet", href, load: resolve, error: resolve }));
});

/**
 * `lines`: {title, values, colour, show, dash, bars} each; `atS` are their moments. `signal` ends what redraws it,
 * and `range` is that of its values. What is drawn is there in words, and as a table.
 */
export function chart(title, atS, lines, signal, range) {
  const counted = lines.some((it) => it.values.some((value) => value !== null));
  const place = counted ? element("div", { class: "chart" }) : element("p", { class: "empty" }, "Nothing was counted yet.");
  const figure = element(
    "figure",
    {},
    element("figcaption", {}, title, lines.length > 1 && lines.map(key)),
    place,
    counted && element("p", { class: "hidden" }, summary(lines)),
    counted && asTable(title, atS, lines),
  );
  if (!counted) return figure;
  const draw = () => {
    place.replaceChildren();
    if (place.clientWidth === 0) return;
    const style = getComputedStyle(place);
    const axis = {
      stroke: style.getPropertyValue("--quiet"),
      grid: { stroke: style.getPropertyValue("--line"), width: 1 },
      ticks: { stroke: style.getPropertyValue("--line"), width: 1 },
      font: "12px system-ui, sans-serif",
    };
    new uPlot(
      {
        width: place.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        cursor: { y: false },
        scales: {
          x: { range: (_, first, last) => (atS.length === 1 ? [atS[0] - ALONE_S, atS[0] + ALONE_S] : [first, last]) },
          y: { range: range ?? ((_, low, high) => [0, high > 0 ? high * 1.1 : 1]) },
        },
        axes: [axis, { ...axis, size: wide, values: (_, values) => values.map(lines[0].show) }],
        series: [
          {},
          ...lines.map((it) => ({
            label: it.title,
            stroke: style.getPropertyValue(it.colour),
            width: 2,
            dash: it.dash,
            fill: it.bars ? style.getPropertyValue(it.colour) : null,
            paths: it.bars ? uPlot.paths.bars({ size: [0.7, BAR_MAX] }) : null,
            points: { show: atS.length === 1 },
            spanGaps: false,
          })),
        ],
      },
      [atS, ...lines.map((it) => it.values)],
      place,
    );
  };
  const watch = new ResizeObserver(draw);
  watch.observe(place);
  document.documentElement.addEventListener("themechange", draw, { signal });
  signal.addEventListener("abort", () => watch.disconnect());
  return figure;
}

/** Of an axis whose longest label has to be there as a whole. */
function wide(_, labels) {
  return 16 + LETTER * Math.max(4, ...(labels ?? []).map((it) => it.length));
}

/** Which line is whose. */
function key(line) {
  const sign = element("span", { class: line.dash ? "key dashed" : "key" }, line.title);
  sign.style.setProperty("--colour", `var(${line.colour})`);
  return sign;
}

/** All points, for who asks: made when they are asked for. */
function asTable(title, atS, lines) {
  const rows = atS.map((_, at) => at).toReversed();
  const table = new Table(
    title,
    [
      { title: "At", show: (at) => moment(atS[at]), by: (at) => at },
      ...lines.map((line) => ({
        title: line.title,
        number: true,
        show: (at) => (line.values[at] === null ? NOTHING : line.show(line.values[at])),
        by: (at) => line.values[at],
      })),
    ],
    "Nothing was counted yet.",
  );
  const details = element(
    "details",
    { toggle: () => details.open && table.show(rows) },
    element("summary", {}, "As a table"),
    element("div", { class: "scrolled", tabindex: "0", role: "region", "aria-label": title }, table.element),
  );
  return details;
}

/** The same in words, for who does not see it. */
function summary(lines) {
  return lines
    .map((it) => {
      const there = it.values.filter((value) => value !== null);
      if (there.length === 0) return `${it.title}: nothing.`;
      const [least, most] = [Math.min(...there), Math.max(...there)];
      return `${it.title}: now ${it.show(there.at(-1))}, between ${it.show(least)} and ${it.show(most)}.`;
    })
    .join(" ");
}
