// Charts as SVG: lines over axes, bars of two classes, sparklines. Colours and type are the style sheet's.

import { score, svg } from "./dom.js";

const WIDTH = 400, HEIGHT = 230, LEFT = 40, RIGHT = 12, TOP = 12, BOTTOM = 36;

/**
 * Lines over two axes.
 *
 * @param {string} says what the chart shows right now, for screen readers
 * @param {{x: string, y: string, xMax?: number, yMax?: number}} axes names and largest values
 * @param {{tone: string, points: [number, number][]}[]} lines
 * @param {{x: number, name: string}[]} marks vertical lines
 * @param {{x: number, y: number, tone: string}[]} dots
 */
export function lineChart(says, axes, lines, marks = [], dots = []) {
  const { x, y } = placing(axes.xMax ?? 1, axes.yMax ?? 1);
  const shown = lines.map((line) => svg("polyline", { class: `line ${line.tone}`,
    points: line.points.filter((point) => point.every(Number.isFinite)).map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ") }));
  return frame(says, axes, x, y, [
    shown, marks.map((mark, index) => markLine(x(mark.x), mark.name, index)),
    dots.filter((dot) => Number.isFinite(dot.x) && Number.isFinite(dot.y)).map((dot) => svg("circle", { class: `dot ${dot.tone}`, cx: x(dot.x), cy: y(dot.y), r: 5 }))]);
}

/** Counts of two classes in bins from 0 to 1: one upwards, the other downwards, on a square-root scale. */
export function mirrored(says, axes, up, down, marks) {
  const most = Math.sqrt(Math.max(1, ...up, ...down));
  const { x } = placing(1, 1);
  const middle = (TOP + HEIGHT - BOTTOM) / 2, tall = (HEIGHT - BOTTOM - TOP) / 2 - 2;
  const bars = (bins, tone, sign) => bins.map((value, index) => {
    const height = (Math.sqrt(value) / most) * tall;
    return value > 0 && svg("rect", { class: `bin ${tone}`, x: x(index / bins.length) + 0.4, width: x(1 / bins.length) - x(0) - 0.8,
      y: sign > 0 ? middle - height : middle, height });
  });
  return chart(says, [
    svg("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: middle, y2: middle }), xTicks(x, 1),
    bars(up, "unsafe", 1), bars(down, "safe", -1), marks.map((mark, index) => markLine(x(mark.x), mark.name, index)),
    svg("text", { class: "label", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, axes.x),
    svg("text", { class: "label unsafe", x: LEFT - 6, y: TOP + tall / 2, "text-anchor": "end" }, axes.up),
    svg("text", { class: "label safe", x: LEFT - 6, y: middle + tall / 2 + 8, "text-anchor": "end" }, axes.down)]);
}

/** The last values of a series, scaled to its own largest one; nothing is drawn of a single value. */
export function sparkline(says, values, tone = "") {
  const kept = values.filter(Number.isFinite);
  const most = Math.max(...kept, 1e-9);
  const at = (value, index) => `${((index / Math.max(1, values.length - 1)) * 120).toFixed(1)},${(30 - (value / most) * 27).toFixed(1)}`;
  const points = values.map((value, index) => Number.isFinite(value) && at(value, index)).filter(Boolean);
  return svg("svg", { class: "sparkline", viewBox: "0 0 120 32", preserveAspectRatio: "none", role: "img", "aria-label": says },
    points.length > 1 && [
      svg("polygon", { class: `area ${tone}`, points: [`${points[0].split(",")[0]},31`, ...points, `${points.at(-1).split(",")[0]},31`].join(" ") }),
      svg("polyline", { class: `line ${tone}`, points: points.join(" ") })]);
}

function placing(xMax, yMax) {
  return {
    x: (value) => LEFT + (Math.min(value, xMax) / xMax) * (WIDTH - LEFT - RIGHT),
    y: (value) => HEIGHT - BOTTOM - (Math.min(value, yMax) / yMax) * (HEIGHT - TOP - BOTTOM),
  };
}

function frame(says, axes, x, y, content) {
  const yMax = axes.yMax ?? 1;
  const steps = [0, 0.25, 0.5, 0.75, 1].map((step) => step * yMax);
  return chart(says, [
    steps.map((step) => [
      svg("line", { class: step === 0 ? "axis" : "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(step), y2: y(step) }),
      svg("text", { class: "tick", x: LEFT - 6, y: y(step) + 3.5, "text-anchor": "end" }, short(step))]),
    xTicks(x, axes.xMax ?? 1), content,
    svg("text", { class: "label", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, axes.x)]);
}

function xTicks(x, most) {
  return [0, 0.25, 0.5, 0.75, 1].map((step) =>
    svg("text", { class: "tick", x: x(step * most), y: HEIGHT - BOTTOM + 14, "text-anchor": step === 1 ? "end" : "middle" }, short(step * most)));
}

function markLine(at, name, index) {
  const late = at > WIDTH * 0.68; // no room to the right
  return [
    svg("line", { class: "threshold", x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }),
    svg("text", { class: "threshold-name", x: at + (late ? -4 : 4), y: TOP + 8 + 12 * (index % 4), "text-anchor": late ? "end" : "start" }, name)];
}

function chart(says, content) {
  return svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": says }, content);
}

const short = (value) => (value === 0 ? "0" : score(value).replace(/0+$/, "").replace(/\.$/, ""));
