// The view "Traffic": /metrics, read every other second, as rates, latency, hazards and drift.

import { ApiError, getText } from "./api.js";
import { sparkline } from "./charts.js";
import { byId, count, duration, h, notice, number, percent, show } from "./dom.js";
import { Scrape, grown, quantiles } from "./metrics.js";
import { scale } from "./scale.js";
import { SHORT_REASONS, TRIGGERS, VERDICTS, stageName, title } from "./words.js";

const EVERY_MS = 2000;
const KEPT = 300; // scrapes: ten minutes
const WINDOW_MS = 60000; // what percentiles and shares look back on
const LATENCY = ["cascade_latency_seconds", { stage: "all", phase: "total" }];

/** Makes the view work. */
export function start() {
  const scrapes = [];
  let paused = false, failed = false;

  byId("pause").addEventListener("click", () => {
    paused = !paused;
    byId("pause").textContent = paused ? "Go on" : "Pause";
    if (!paused) read();
  });
  setInterval(() => !paused && !document.hidden && !failed && read(), EVERY_MS);
  read();

  async function read() {
    try {
      const text = await getText("/metrics", { quiet: scrapes.length > 0 });
      scrapes.push(new Scrape(text, performance.now()));
      if (scrapes.length > KEPT) scrapes.shift();
      failed = false;
      show(byId("traffic-error"));
      show(byId("traffic"), board(scrapes));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      failed = true;
      byId("traffic-status").textContent = error.message;
      show(byId("traffic-error"), notice("bad", "The metrics cannot be read", [error.message, ...error.lines]),
        h("p", {}, h("button", { type: "button", class: "quiet", on: { click: read } }, "Try again")));
    }
  }
}

/** What the scrapes say, the latest against the one a minute ago. */
export function board(scrapes) {
  const latest = scrapes.at(-1);
  const since = scrapes.find((scrape) => latest.at - scrape.at <= WINDOW_MS) ?? latest;
  const before = since === latest ? null : since; // with one scrape alone: all since the server started
  const fresh = before && grown(before, latest, "cascade_verdicts_total") > 0 ? before : null;
  const over = fresh ? "in the last minute" : "since the server started";
  return [
    h("div", { class: "tiles" }, headline(scrapes, fresh, over)),
    h("div", { class: "boards" },
      card("Latency", latency(fresh, latest), over),
      card("Verdicts", bars(shared(fresh, latest, "cascade_verdicts_total", "verdict"), (key) => VERDICTS[key]?.word ?? key, (key) => VERDICTS[key]?.tone), over),
      card("Why stage 2 was asked", bars(shared(fresh, latest, "cascade_escalations_total", "reason"), (key) => SHORT_REASONS[key] ?? key), over),
      card("Hazards flagged", bars(shared(fresh, latest, "cascade_hazards_flagged_total", "hazard"), title), over),
      card("Triggers", bars(shared(fresh, latest, "cascade_triggers_total", "trigger"), title, undefined, (key) => TRIGGERS[key]), over),
      card("Drift", drift(latest)),
      card("Stages", stages(latest)),
      card("Calls", calls(fresh, latest), over)),
  ];
}

function headline(scrapes, fresh, over) {
  const latest = scrapes.at(-1), pairs = scrapes.slice(1).map((scrape, index) => [scrapes[index], scrape]);
  const rate = (name, wanted) => pairs.map(([a, b]) => (1000 * grown(a, b, name, wanted)) / (b.at - a.at));
  const checks = rate("cascade_verdicts_total"), refused = rate("cascade_refused_total");
  const ratio = ([a, b]) => grown(a, b, "cascade_escalations_total") / grown(a, b, "cascade_verdicts_total");
  const medians = pairs.map(([a, b]) => (grown(a, b, "cascade_verdicts_total") > 0 ? 1000 * quantiles(a, b, ...LATENCY, [0.5])[0] : NaN));
  const [p50, p95] = quantiles(fresh, latest, ...LATENCY, [0.5, 0.95]).map((seconds) => 1000 * seconds);
  const flight = scrapes.map((scrape) => scrape.sum("cascade_requests_in_flight"));
  return [
    tile("Checks a second", number(checks.at(-1)), `${count(latest.sum("cascade_verdicts_total"))} since the server started`, checks),
    tile("Escalated", percent(ratio([fresh, latest])), over, pairs.map(ratio)),
    tile("Median latency", duration(p50), `95th percentile ${duration(p95)}, ${over}`, medians),
    tile("Refused a second", number(refused.at(-1)), "for want of room, time or quota", refused, "unsafe"),
    tile("Being answered", count(flight.at(-1)), "calls at this moment", flight),
  ];
}

function tile(name, figure, says, series, tone) {
  return h("div", { class: "tile" }, h("h2", {}, name), h("p", { class: "figure" }, figure),
    sparkline(`${name}, the last ${series.length} readings`, series, tone), h("p", { class: "hint" }, says));
}

function card(name, content, over) {
  return h("section", { class: "card", "aria-label": name }, h("h2", {}, name), over && h("p", { class: "hint" }, over), content);
}

function shared(before, after, name, label) {
  const old = before ? before.by(name, label) : {};
  return Object.entries(after.by(name, label)).map(([key, value]) => [key, Math.max(0, value - (old[key] ?? 0))])
    .filter(([, value]) => value > 0).sort((a, b) => b[1] - a[1]);
}

function bars(entries, named, tone = () => "", says = () => null) {
  if (entries.length === 0) return h("p", { class: "empty" }, "None yet.");
  const all = entries.reduce((sum, [, value]) => sum + value, 0), most = entries[0][1];
  return h("ul", { class: "bars" }, entries.map(([key, value]) => h("li", { title: says(key) },
    h("span", { class: "name" }, named(key)), h("span", { class: "value" }, `${count(value)} · ${percent(value / all, 0)}`),
    h("span", { class: `strip ${tone(key) ?? ""}`, "aria-hidden": "true", at: { width: `${((100 * value) / most).toFixed(1)}%` } }))));
}

function table(columns, rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": columns[0] }, h("table", {},
    h("thead", {}, h("tr", {}, columns.map((name, index) => h("th", { scope: "col", class: index ? "n" : null }, name)))),
    h("tbody", {}, rows.map(([name, ...cells]) => h("tr", {}, h("th", { scope: "row" }, name), cells.map((cell) => h("td", { class: "n" }, cell)))))));
}

function latency(before, after) {
  const shares = [0.5, 0.9, 0.95, 0.99];
  const rows = [["Whole check", LATENCY[1]], ["Stage 1", { stage: "stage1", phase: "total" }], ["Stage 1 waits", { stage: "stage1", phase: "queue" }],
    ["Stage 2", { stage: "stage2", phase: "total" }], ["Stage 2 waits", { stage: "stage2", phase: "queue" }]];
  return table(["Percentile", ...shares.map((share) => `${100 * share}th`)],
    rows.map(([name, wanted]) => [name, ...quantiles(before, after, LATENCY[0], wanted, shares).map((seconds) => duration(1000 * seconds))]));
}

function drift(latest) {
  const found = latest.all("cascade_drift_score_psi");
  if (!latest.has("cascade_reference_escalation_ratio")) return h("p", { class: "empty" }, "The policy has no reference to measure drift against. cascade tune writes one.");
  if (found.length === 0) return h("p", { class: "empty" }, "Measured once there were 500 checks.");
  return found.map(({ labels, value }) => {
    const same = { policy: labels.policy, ...(labels.worker ? { worker: labels.worker } : {}) };
    const now = latest.sum("cascade_drift_escalation_ratio", same), then = latest.all("cascade_reference_escalation_ratio", same)[0]?.value;
    return h("div", { class: "drift" }, h("h3", { class: "small" }, labels.policy, labels.worker && ` · ${labels.worker}`),
      scale("Distance of the scores from the reference (PSI)", value, [{ at: 0.1, name: "watch" }, { at: 0.25, name: "fit again" }],
        [{ to: 0.1, tone: "safe", name: "no drift that matters" }, { to: 0.25, tone: "doubt", name: "to be watched" }, { to: 1, tone: "unsafe", name: "so far that the policy should be fitted again" }]),
      h("p", { class: "hint" }, `Escalated now ${percent(now)}, in the reference ${percent(then)}.`));
  });
}

function stages(latest) {
  const models = Object.fromEntries(latest.all("cascade_model_info").map(({ labels }) => [labels.stage, labels]));
  const names = Object.keys(latest.by("cascade_stage_asked", "stage")).sort();
  return names.map((name) => {
    const all = latest.all("cascade_stage_asked", { stage: name }), asked = all.filter(({ value }) => value > 0).length;
    const sizes = latest.sum("cascade_batch_windows_sum", { stage: name }) / latest.sum("cascade_batch_windows_count", { stage: name });
    const model = models[name];
    return h("div", { class: "stage" }, h("h3", { class: "small" }, stageName(name),
      h("span", { class: asked === all.length ? "state good" : "state bad" }, asked === all.length ? "asked" : `left alone in ${all.length - asked} of ${all.length}`)),
      h("p", { class: "hint" }, [model && `${model.name}@${model.revision} on ${model.device}`, `${count(latest.sum("cascade_queue_windows", { stage: name }))} windows wait`,
        `${number(sizes)} windows a batch`].filter(Boolean).join(" · ")));
  });
}

/** A method without its package, which cards have no room for. */
const shortName = (method) => method.slice(method.lastIndexOf(".") + 1);

function calls(before, after) {
  const codes = new Set(after.all("cascade_requests_total").map(({ labels }) => `${labels.method}\0${labels.code}`));
  const rows = [...codes].map((key) => key.split("\0")).map(([method, code]) => [method, code, grown(before, after, "cascade_requests_total", { method, code })])
    .filter(([, , value]) => value > 0).sort((a, b) => b[2] - a[2]);
  const cache = after.by("cascade_cache_requests_total", "outcome"), asked = Object.values(cache).reduce((sum, value) => sum + value, 0);
  return [
    rows.length ? table(["Method", "Code", "Calls"], rows.map(([method, code, value]) => [shortName(method), code, count(value)])) : h("p", { class: "empty" }, "None yet."),
    asked > 0 && h("p", { class: "hint" }, `Kept answers served ${percent((cache.hit ?? 0) / asked)} of all checks.`),
  ];
}
