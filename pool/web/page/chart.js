// A chart over time, by uPlot; in the page's colours, as wide as its place.

import uPlot from "./uPlot.esm.js";
import { element } from "./elements.js";

const HEIGHT = 200;

// Its sheet comes with it, so that no page without a chart waits for it.
await new Promise((resolve) => {
  const href = new URL("uPlot.min.css", import.meta.url).href;
  document.head.append(element("link", { rel: "stylesheet", href, load: resolve, error: resolve }));
});

/** `lines`: {title, values, colour, show}; `atS` are their moments. `stop` ends what redraws it. */
export function chart(title, atS, lines, signal, range) {
  const place = element("div", { class: "chart" });
  const figure = element(
    "figure",
    {},
    element("figcaption", {}, title),
    place,
    element("p", { class: "hidden" }, summary(title, atS, lines)),
  );
  const draw = () => {
    place.replaceChildren();
    if (place.clientWidth === 0 || atS.length === 0) return;
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
        scales: { y: { range: range ?? ((_, low, high) => [0, high > 0 ? high * 1.1 : 1]) } },
        axes: [axis, { ...axis, size: 78, values: (_, values) => values.map(lines[0].show) }],
        series: [
          {},
          ...lines.map((it) => ({
            label: it.title,
            stroke: style.getPropertyValue(it.colour),
            width: 2,
            dash: it.dash,
            points: { show: false },
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

/** The same in words, for who does not see it. */
function summary(title, atS, lines) {
  if (atS.length === 0) return "Nothing was counted yet.";
  return lines
    .map((it) => {
      const there = it.values.filter((value) => value !== null);
      if (there.length === 0) return `${it.title}: nothing.`;
      const [least, most] = [Math.min(...there), Math.max(...there)];
      return `${it.title}: now ${it.show(there.at(-1))}, between ${it.show(least)} and ${it.show(most)}.`;
    })
    .join(" ");
}
