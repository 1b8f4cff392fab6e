// Figures as people read them, with the units that the command line has; times in the reader's zone.

import { element } from "./elements.js";

const UNITS = ["H/s", "kH/s", "MH/s", "GH/s", "TH/s", "PH/s", "EH/s", "ZH/s"];
const SUFFIXES = ["", "k", "M", "G", "T", "P", "E"];
export const NOTHING = "–";
const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

/** 43.87 PH/s, rounded down to four digits. */
export function hashrate(hps) {
  if (hps === null || hps === undefined) return NOTHING;
  return scaled(hps, UNITS);
}

export function ths(value) {
  return value === null || value === undefined ? NOTHING : hashrate(value * 1e12);
}

/** 64k of 65,536, as machines' settings have it: 1,024 times a step; what is no multiple whole, a part of 1 as 1/65,536. */
export function difficulty(value) {
  if (value === null || value === undefined) return NOTHING;
  if (value > 0 && value < 1) return `1/${grouped(Math.round(1 / value))}`;
  let shown = Math.round(value);
  let step = 0;
  while (shown !== 0 && shown % 1024 === 0 && step < SUFFIXES.length - 1) {
    shown /= 1024;
    step += 1;
  }
  return `${grouped(shown)}${SUFFIXES[step]}`;
}

function scaled(value, units) {
  let unit = 0;
  let shown = value;
  while (shown >= 1000 && unit < units.length - 1) {
    shown /= 1000;
    unit += 1;
  }
  const digits = unit === 0 ? 0 : Math.max(0, 4 - String(Math.floor(shown)).length);
  const factor = 10 ** digits;
  return `${(Math.floor(shown * factor) / factor).toFixed(digits)} ${units[unit]}`;
}

/** 3,250.0 kW, of W. */
export function kilowatts(watts) {
  return watts === null || watts === undefined ? NOTHING : `${(watts / 1000).toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 })} kW`;
}

/** 1,234,567. */
export function grouped(number) {
  return number === null || number === undefined ? NOTHING : number.toLocaleString("en-US");
}

/** 1.23456789 BTC, never rounded. */
export function btc(sat) {
  if (sat === null || sat === undefined) return NOTHING;
  const digits = String(Math.abs(sat)).padStart(9, "0");
  const whole = Number(digits.slice(0, -8)).toLocaleString("en-US");
  return `${sat < 0 ? "−" : ""}${whole}.${digits.slice(-8)} BTC`;
}

/** 2.00 % of basis points. */
export function percentOfBps(bps) {
  return bps === null || bps === undefined ? NOTHING : `${(bps / 100).toFixed(2)} %`;
}

/** A part of a whole in percent; nothing of nothing. */
export function percent(part, whole) {
  return !whole || part === null || part === undefined ? NOTHING : `${((100 * part) / whole).toFixed(1)} %`;
}

/** 3 d 4 h, of seconds. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NOTHING;
  const parts = [
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  const at = parts.findIndex(([size]) => seconds >= size);
  if (at < 0) return "0 s";
  const [[size, name], next] = [parts[at], parts[at + 1]];
  const rest = next ? Math.floor((seconds % size) / next[0]) : 0;
  return `${Math.floor(seconds / size)} ${name}${rest && next ? ` ${rest} ${next[1]}` : ""}`;
}

/** A moment, in the reader's zone; how long ago it is stands in its title. */
export function moment(atS, short = false) {
  if (atS === null || atS === undefined) return NOTHING;
  const at = new Date(atS * 1000);
  const distance = Math.round(Date.now() / 1000 - atS);
  const title = distance >= 0 ? `${duration(distance)} ago` : `in ${duration(-distance)}`;
  return element("time", { datetime: at.toISOString(), title }, (short ? CLOCK : TIME).format(at));
}

export function ago(atS) {
  if (atS === null || atS === undefined) return NOTHING;
  const at = new Date(atS * 1000);
  const words = `${duration(Math.max(0, Math.round(Date.now() / 1000 - atS)))} ago`;
  return element("time", { datetime: at.toISOString(), title: TIME.format(at) }, words);
}
