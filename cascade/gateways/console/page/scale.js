// A probability on its thresholds: zones from 0 to 1, named marks between them, and a needle.

import { h, score } from "./dom.js";

const APART = 0.24; // marks nearer than this share of the scale stand on rows of their own

/**
 * A scale.
 *
 * @param {string} name what is measured, for screen readers
 * @param {number|undefined} value where the needle stands, 0 to 1, or at the end if it is more; without one there is none
 * @param {{at: number, name: string}[]} marks thresholds
 * @param {{to: number, tone: string, name: string}[]} zones from the left; the last ends at 1
 */
export function scale(name, value, marks, zones) {
  const known = marks.filter((mark) => Number.isFinite(mark.at)).sort((a, b) => a.at - b.at);
  const here = zones.find((zone) => value < zone.to) ?? zones.at(-1);
  const spoken = [
    value === undefined ? `${name}: no score` : value > 1 ? `${name}: ${score(value)}` : `${name}: ${score(value)} of 1`,
    ...known.map((mark) => `${mark.name} from ${score(mark.at)}`),
    value !== undefined && here?.name ? `it is ${here.name}` : "",
  ].filter(Boolean).join("; ");
  let from = 0;
  const strips = zones.map((zone) => {
    const strip = h("span", { class: `zone ${zone.tone}`, at: { from: share(from), width: share(Math.max(0, zone.to - from)) } });
    from = Math.max(from, zone.to);
    return strip;
  });
  const rows = layers(known);
  return h("div", { class: "scale", role: "img", "aria-label": spoken, at: { rows: Math.max(1, ...rows.map((row) => row + 1)) } },
    h("div", { class: "track" }, strips,
      value !== undefined && h("span", { class: "needle", at: { at: share(value) } }, h("b", { class: edge(value) }, score(value)))),
    h("div", { class: "marks" }, known.map((mark, index) =>
      h("span", { class: `mark ${edge(mark.at)}`, at: { at: share(mark.at), row: rows[index] } }, `${mark.name} ${score(mark.at)}`))));
}

/** The row of each mark, so that no label covers another one. */
function layers(marks) {
  const ends = [];
  return marks.map((mark) => {
    let row = ends.findIndex((end) => mark.at - end >= APART);
    if (row < 0) row = ends.length;
    ends[row] = mark.at;
    return row;
  });
}

/** Labels near an end are written inwards. */
const edge = (at) => (at < 0.12 ? "first" : at > 0.85 ? "last" : "");

const share = (part) => `${(100 * Math.min(1, Math.max(0, part))).toFixed(2)}%`;
