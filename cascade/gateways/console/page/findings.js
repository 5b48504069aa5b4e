// What thresholds do to rows: headline figures, charts, and the columns of the hazard table.

import { lineChart, mirrored } from "./charts.js";
import { countAll, interval } from "./decide.js";
import { count, h, number, percent, score } from "./dom.js";

const BINS = 40, STEPS = 60;

/** The four figures, each with what it was under the policy that was started from. */
export function tiles(all, now, before, costs) {
  const both = costs.stage1 + costs.stage2;
  return [
    tile("Recall", now.recall, before.recall, 1, between(all.hits, all.unsafe, "unsafe rows")),
    tile("False positives", now.falsePositives, before.falsePositives, -1, between(all.alarms, all.harmless, "safe rows")),
    tile("Escalated", now.escalation, before.escalation, 0, `${percent(now.blocked)} blocked, ${percent(now.doubtful)} to review`),
    h("div", { class: "tile" }, h("h3", {}, "Cost of a text"), h("p", { class: "figure" }, number(now.cost, 2)),
      h("p", { class: "delta" }, change(now.cost - before.cost, (value) => number(value, 2))),
      h("p", { class: "hint" }, both > 0 ? `${percent(now.cost / both, 0)} of asking both stages always` : "")),
  ];
}

function tile(name, now, before, better, says) {
  const moved = now - before;
  const tone = !better || Math.abs(moved) < 5e-5 || !Number.isFinite(moved) ? "" : moved * better > 0 ? "good" : "worse";
  return h("div", { class: "tile" }, h("h3", {}, name), h("p", { class: "figure" }, percent(now)),
    h("p", { class: `delta ${tone}` }, change(moved, (value) => `${number(100 * value, 1)} points`)), h("p", { class: "hint" }, says));
}

function change(by, shown) {
  if (!Number.isFinite(by) || shown(Math.abs(by)) === shown(0)) return "as at the start";
  return `${by > 0 ? "+" : "−"}${shown(Math.abs(by))}`;
}

function between(some, of, what) {
  if (!of) return `No ${what} are labelled`;
  const [least, most] = interval(some, of);
  return `${count(some)} of ${count(of)} ${what}; 95\u00a0%: ${percent(least)} to ${percent(most)}`;
}

/** All charts for the thresholds as they are. */
export function charts(sample, facts, rules) {
  const labelled = sample.unsafe.some((unsafe) => unsafe !== null);
  const band = [{ x: rules.low, name: "low" }, { x: rules.flags, name: "flags" }, { x: rules.high, name: "sure" }];
  const up = bins(sample, (unsafe) => unsafe === true), down = bins(sample, (unsafe) => unsafe !== true);
  const figure = (name, chart, ...keys) => h("figure", { class: "card" }, h("h3", {}, name), chart, keys.length > 0 && h("figcaption", { class: "key" }, keys));
  const shown = [figure("Where stage 1’s scores lie",
    mirrored(`Scores of stage 1. Escalated from ${score(rules.low)}, flagged from ${score(rules.flags)}, sure from ${score(rules.high)}`,
      { x: "stage 1’s score", up: labelled ? "unsafe" : "", down: labelled ? "safe" : "all" }, up, down, band), "Height: square root of the number of rows")];
  const low = sweep(sample, facts, rules, "low", (value) => ({ low: value, flags: Math.max(rules.flags, value) }));
  const lines = labelled ? [["recall", "recall"], ["fpr", "false positives"], ["escalation", "escalated"]] : [["escalation", "escalated"], ["blocked", "blocked"]];
  shown.push(figure("If “escalate from” moved",
    lineChart(`Over the threshold of escalation: ${now(low, rules.low, lines)}`, { x: "escalate from" }, lines.map(([key]) => of(low, key)), [{ x: rules.low, name: "now" }]), ...lines.map(legend)));
  const unsafe = sweep(sample, facts, rules, "unsafe", (value) => ({ unsafe: value, doubt: Math.min(rules.doubt, value) }));
  const two = labelled ? lines.slice(0, 2) : [lines[1]];
  shown.push(figure("If “unsafe from” moved",
    lineChart(`Over the threshold of unsafe: ${now(unsafe, rules.unsafe, two)}`, { x: "unsafe from" }, two.map(([key]) => of(unsafe, key)), [{ x: rules.unsafe, name: "now" }]), ...two.map(legend)));
  if (labelled) {
    const here = shares(countAll(sample, facts, rules));
    shown.push(figure("What recall costs in false positives",
      lineChart(`Recall over false positives; now recall ${percent(here.recall)} at ${percent(here.fpr)} false positives`, { x: "false positives", y: "recall" },
        [{ tone: "recall", points: unsafe.map((point) => [point.fpr, point.recall]) }], [], [{ x: here.fpr, y: here.recall, tone: "here" }]),
      legend(["recall", "recall, as “unsafe from” moves"]), legend(["here", "now"])));
  }
  return shown;
}

function sweep(sample, facts, rules, key, moved) {
  return Array.from({ length: STEPS + 1 }, (_, step) => {
    const value = step / STEPS;
    return { value, ...shares(countAll(sample, facts, { ...rules, ...moved(value) })) };
  });
}

function shares(all) {
  return { recall: all.hits / all.unsafe, fpr: all.alarms / all.harmless, escalation: all.escalated / all.rows, blocked: all.blocked / (all.rows - all.unknown) };
}

function now(points, at, lines) {
  const nearest = points.reduce((a, b) => (Math.abs(b.value - at) < Math.abs(a.value - at) ? b : a));
  return lines.map(([key, name]) => `${name} ${percent(nearest[key])}`).join(", ");
}

const of = (points, key) => ({ tone: key, points: points.map((point) => [point.value, point[key]]) });
const legend = ([tone, name]) => h("span", {}, h("i", { class: tone }), name);

function bins(sample, wanted) {
  const found = new Array(BINS).fill(0);
  for (let row = 0; row < sample.rows; row += 1) {
    if (wanted(sample.unsafe[row])) found[Math.min(BINS - 1, Math.floor(sample.stage1[row] * BINS))] += 1;
  }
  return found;
}

/** Writes the counts of each hazard into its cells. */
export function hazardTable(cells, found) {
  cells.forEach((cell, index) => {
    const { flagged, carriers, hits, harmless, alarms } = found[index];
    cell.flagged.textContent = count(flagged);
    cell.recall.textContent = carriers ? `${percent(hits / carriers, 0)} of ${count(carriers)}` : "–";
    cell.alarms.textContent = harmless ? percent(alarms / harmless) : "–";
  });
}
