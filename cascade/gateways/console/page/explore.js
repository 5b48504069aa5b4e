// The view "Thresholds": a score file, the thresholds that act on it, what they do, and the policy they make.

import { ApiError } from "./api.js";
import { countAll, countHazards, factsOf, figures, rulesOf, sampleOf } from "./decide.js";
import { byId, h, notice, plural, show } from "./dom.js";
import { Controls } from "./controls.js";
import { charts, hazardTable, tiles } from "./findings.js";
import { Export } from "./export.js";
import { madeUp } from "./madeup.js";
import { ScoresError, readFile } from "./scores.js";

/** Makes the view work; `server` knows the policy in force and the taxonomy. */
export function start(server) {
  const drop = byId("drop"), input = byId("scores-file");
  input.addEventListener("change", () => input.files[0] && open(server, input.files[0]));
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files[0]) open(server, event.dataTransfer.files[0]);
  });
  byId("sample").addEventListener("click", () => {
    input.value = "";
    open(server, null);
  });
}

/** Opens a file, or made-up rows without one. */
async function open(server, file) {
  show(byId("explore-error"));
  byId("explore").setAttribute("aria-busy", "true");
  try {
    const taxonomy = await server.taxonomy();
    const found = file ? await readFile(file, taxonomy.hazards.map(({ slug }) => slug)) : { rows: madeUp(), models: null, skipped: 0 };
    const inForce = await server.policy();
    const policy = inForce ?? (await server.defaultPolicy());
    const name = file ? file.name : "made-up rows";
    const others = inForce ? [] : strangers(policy, found.models ?? (await server.models()).map((model) => `${model.name}@${model.revision}`));
    explore({ ...found, name, policy, inForce: inForce !== null, others, taxonomy });
    byId("explore-status").textContent = `${plural(found.rows.length, "row")} read from ${name}`;
  } catch (error) {
    if (!(error instanceof ScoresError || error instanceof ApiError)) throw error;
    show(byId("explore"));
    show(byId("explore-error"), notice("bad", file && error instanceof ScoresError ? `${file.name} cannot be used` : error.message,
      error instanceof ScoresError ? [error.message] : error.lines));
  } finally {
    byId("explore").removeAttribute("aria-busy");
  }
}

/** Of the models that gave scores those that a policy was not fitted on. */
function strangers({ fittedOn }, models) {
  return [...new Set(Object.values(models).map(String))].filter((model) => !fittedOn.includes(model));
}

function explore({ rows, models, skipped, name, policy, inForce, others, taxonomy }) {
  const { hazards } = taxonomy;
  const start = asBand(policy);
  const sample = sampleOf(rows, start, taxonomy);
  const before = rulesOf(start, hazards);
  const controls = new Controls(before, hazards, update);
  const areas = { tiles: h("div", { class: "tiles" }), charts: h("div", { class: "charts" }), hazards: h("div"), unknown: h("div") };
  const policyFile = new Export(start, hazards, { rows: rows.length, file: name });
  let waiting = false;

  show(byId("explore"),
    about({ rows, models, skipped, name, policy, inForce }),
    others.length > 0 && notice("warn", "These thresholds were made for other models", [
      `The policy was fitted on ${policy.fittedOn.join(" and ")}, not on ${others.join(" and ")}: its numbers are a place to start from, no more.`]),
    h("div", { class: "split wide" },
      h("div", { class: "stack sticky" }, controls.element),
      h("div", { class: "stack" }, areas.tiles, areas.unknown, areas.charts,
        h("section", { class: "card", "aria-label": "Hazard thresholds" }, h("h2", {}, "Hazards"), controls.hazardNote,
          rows.every((row) => Object.keys(row.hazards).length === 0) && h("p", { class: "hint" }, "These rows have no scores of hazards."), areas.hazards),
        policyFile.element)));
  show(areas.hazards, controls.hazards);
  update();

  // At most once a frame: a slider tells of more steps than there are pictures.
  function update() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      render();
    });
  }

  function render() {
    const rules = controls.rules, costs = controls.costs;
    const facts = factsOf(sample, rules);
    const all = countAll(sample, facts, rules);
    const first = countAll(sample, factsOf(sample, before), before);
    show(areas.tiles, tiles(all, figures(all, rules, costs), figures(first, before, costs), costs));
    show(areas.unknown, all.unknown > 0 && notice("warn", `Of ${plural(all.unknown, "row")} the verdict is not known`, [
      "These thresholds would have stage 2 read them, but it did not when they were logged. They count as escalated and in nothing else."]));
    show(areas.charts, charts(sample, facts, rules));
    hazardTable(controls.hazardCells, countHazards(sample, facts, rules));
    policyFile.update(rules);
  }
}

/** The policy as one whose router is a band, which is what is explored, and without what holds for its own rules alone. */
function asBand(policy) {
  const band = policy.copy();
  if (band.get("route.kind") !== "band") {
    ["route.margins", "route.delegation"].forEach((table) => band.drop(table));
    band.set("route.kind", "band");
    band.set("route.low", Math.min(band.get("route.low") ?? 0.08, band.get("stage1.unsafe_threshold") ?? 0.62));
  }
  ["certificate", "reference"].forEach((table) => band.drop(table));
  band.drop("route.escalate_flagged");
  return band;
}

function about({ rows, models, skipped, name, policy, inForce }) {
  const labelled = rows.filter((row) => row.unsafe !== null).length;
  const lines = [
    `${plural(rows.length, "row")} from ${name}, ${labelled === rows.length ? "all" : labelled === 0 ? "none" : `${labelled}`} of them labelled.`,
    models && `Scored by ${Object.values(models).map(String).join(" and ")}.`,
    skipped > 0 && `${plural(skipped, "line")} of the log were no answered checks and are left out.`,
    inForce ? `It starts from the policy in force, ${policy.get("name")} ${policy.revision}.`
      : `It starts from the policy that comes with ${policy.fittedOn.join(" and ")}: this caller may not read the one in force.`,
    policy.get("route.kind") !== "band" && `Its router is of the kind ${policy.get("route.kind")}; what is explored here, and exported, is a band.`,
  ].filter(Boolean);
  return h("p", { class: "about" }, lines.join(" "));
}
