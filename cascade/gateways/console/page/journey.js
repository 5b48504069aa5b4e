// One answer as the way that the text took: verdict, then each station with its score on its thresholds.

import { count, duration, h, notice, plural, score } from "./dom.js";
import { evidence } from "./evidence.js";
import { scale } from "./scale.js";
import { ACTIONS, MERGES, REASONS, TRIGGERS, VERDICTS, stageName, title } from "./words.js";

const SEGMENTS = [["tokenizeMs", "cut into tokens"], ["queueMs", "waited"], ["inferMs", "judged"]];

/**
 * All that is shown of an answer.
 *
 * @param {object} request the CheckRequest, for its texts
 * @param {object} answer the CheckResponse
 * @param {object|null} policy thresholds by dotted key, null where they are not known
 * @param {object[]} hazards the taxonomy's
 * @param {number} took milliseconds from the page's side
 */
export function journey(request, answer, policy, hazards, took) {
  return [
    banner(answer, took),
    answer.degraded && notice("warn", "Answered with less than the whole cascade", [answer.degradedReason]),
    answer.coverage?.truncated && notice("warn", "Not all of it was read", [
      `${count(Number(answer.coverage.tokensScored))} of ${count(Number(answer.coverage.tokensTotal))} tokens were.`]),
    h("div", { class: "columns" },
      h("section", { class: "card", "aria-label": "The way through the cascade" },
        h("h2", {}, "Through the cascade"), h("ol", { class: "journey" }, stations(answer, policy))),
      h("section", { class: "card", "aria-label": "Hazards" }, h("h2", {}, "Hazards"), hazardList(answer.hazards ?? [], hazards), others(answer))),
    h("section", { class: "card", "aria-label": "Evidence in the text" }, h("h2", {}, "In the text"), evidence(request, answer.spans ?? [], answer.explanation)),
    h("section", { class: "card", "aria-label": "Timings" }, h("h2", {}, "Time"), timings(answer.stages ?? [], took)),
    h("details", { class: "card raw" }, h("summary", {}, "The answer as JSON"),
      h("pre", { tabindex: "0", "aria-label": "The answer as JSON" }, JSON.stringify(answer, null, 2))),
  ];
}

function banner(answer, took) {
  const verdict = VERDICTS[answer.verdict] ?? { word: answer.verdict, tone: "doubt", says: "" };
  return h("section", { class: `banner ${verdict.tone}`, "aria-label": "Verdict" },
    h("div", {},
      h("p", { class: "verdict" }, h("span", { class: "shape", "aria-hidden": "true" }), verdict.word),
      h("p", { class: "says" }, verdict.says)),
    h("dl", { class: "facts" },
      fact("Action", ACTIONS[answer.action] ?? answer.action),
      fact("Unsafe", score(answer.unsafeProbability)),
      fact("Took", duration(took)),
      answer.overrideRule && fact("Decided by the rule", h("code", {}, answer.overrideRule))));
}

function fact(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

function stations(answer, policy) {
  const stages = Object.fromEntries((answer.stages ?? []).map((stage) => [stage.name, stage]));
  const { route = {}, coverage = {} } = answer;
  const tokens = plural(Number(coverage.tokensTotal ?? 0), "token");
  return [
    station("done", "Read", h("p", {}, stages.stage1
      ? `${tokens} in ${plural(Number(coverage.segments ?? 0), "window")}, all of them scored.`
      : "Stage 1 failed, so that nothing was read.")),
    stages.stage1 ? station("done", "Stage 1", model(stages.stage1), stage1Scale(stages.stage1, policy))
      : station("failed", "Stage 1", h("p", {}, "No answer.")),
    station(route.escalated ? "turn" : "done", "Route", h("p", {}, REASONS[route.reason] ?? route.reason),
      route.triggers?.length > 0 && h("ul", { class: "triggers", "aria-label": "Triggers" }, route.triggers.map((name) =>
        h("li", {}, h("strong", {}, title(name)), " ", TRIGGERS[name] ?? "")))),
    stages.stage2 ? station("done", "Stage 2", model(stages.stage2), stage2Scale(stages.stage2))
      : station(route.escalated ? "failed" : "skipped", "Stage 2", h("p", {}, route.escalated ? "No answer." : "Not asked.")),
    station("done", "Verdict", h("p", {}, verdictLine(answer)), mergedScale(answer, policy, Boolean(stages.stage2))),
  ];
}

function station(state, name, ...content) {
  return h("li", { class: `station ${state}` }, h("h3", {}, name), content);
}

function model(stage) {
  return h("p", { class: "model" }, `${stage.model}@${stage.revision} on ${stage.device}`);
}

function stage1Scale(stage, policy) {
  if (policy === null) return scale("Stage 1", stage.calibratedProbability, [], [{ to: 1, tone: "plain", name: "" }]);
  const { low, unsafe, high } = { low: policy["route.low"], unsafe: policy["stage1.unsafe_threshold"], high: policy["route.high"] };
  const band = policy["route.kind"] === "band"; // the other kinds of routers do not look at `low`
  return scale("Stage 1", stage.calibratedProbability,
    [band && { at: low, name: "low" }, { at: unsafe, name: "unsafe" }, { at: high, name: "high" }].filter(Boolean),
    [
      band && { to: low, tone: "safe", name: "below the band, so it passes" },
      { to: unsafe, tone: band ? "doubt" : "plain", name: band ? "within the band, so stage 2 is asked" : "below the threshold" },
      { to: high, tone: "unsafe", name: "flagged as unsafe" },
      { to: 1, tone: "sure", name: "so sure that stage 2 cannot clear it" },
    ].filter(Boolean));
}

function stage2Scale(stage) {
  return scale("Stage 2", stage.calibratedProbability, [], [{ to: 1, tone: "plain", name: "" }]);
}

function mergedScale(answer, policy, both) {
  const value = answer.unsafeProbability;
  if (policy === null) return scale("Merged", value, [], [{ to: 1, tone: "plain", name: "" }]);
  const unsafe = policy[both ? "stage2.unsafe_threshold" : "stage1.unsafe_threshold"];
  const doubt = Math.min(policy["merge.controversial_threshold"], unsafe);
  return scale("Merged", value, [{ at: doubt, name: "controversial" }, { at: unsafe, name: "unsafe" }], [
    { to: doubt, tone: "safe", name: "safe by its score" },
    { to: unsafe, tone: "doubt", name: "controversial by its score" },
    { to: 1, tone: "unsafe", name: "unsafe by its score" },
  ]);
}

function verdictLine(answer) {
  const how = answer.mergeRule ? `Merged by ${answer.mergeRule}: ${MERGES[answer.mergeRule] ?? "a rule of the policy"}.` : "No score to merge.";
  const rule = answer.overrideRule ? ` The policy’s rule ${answer.overrideRule} decided.` : "";
  const { rule: key, probability, threshold } = answer.explanation ?? {};
  const held = key && threshold !== undefined && threshold !== null ? ` What decides is ${key}: ${score(probability)} against ${score(threshold)}.` : "";
  return `${how}${rule}${held} Policy revision ${answer.policyRevision}.`;
}

/** The hazards, each with its probability as a bar up to or beyond its threshold. */
function hazardList(found, known) {
  const definitions = Object.fromEntries(known.map((hazard) => [hazard.slug, hazard.definition]));
  return h("ul", { class: "hazards" }, found.map((hazard) => {
    const scored = hazard.probability !== undefined && hazard.probability !== null;
    const spoken = scored ? `${score(hazard.probability)}, threshold ${score(hazard.threshold)}${hazard.flagged ? ", flagged" : ""}` : "not scored";
    return h("li", { class: hazard.flagged ? "flagged" : scored ? "" : "unknown" },
      h("span", { class: "code" }, hazard.code),
      h("span", { class: "name" }, title(hazard.slug), hazard.flagged && h("span", { class: "flag" }, "flagged")),
      h("span", { class: "value" }, scored ? score(hazard.probability) : "not scored"),
      h("span", { class: "bar", role: "img", "aria-label": `${title(hazard.slug)}: ${spoken}`,
        at: { fill: width(hazard.probability ?? 0), limit: width(hazard.threshold) } }),
      hazard.flagged && h("span", { class: "definition" }, definitions[hazard.slug] ?? "",
        hazard.related?.length > 0 && ` It may also be: ${hazard.related.map(title).join(", ")}.`));
  }));
}

/** Stage 1's own categories, attributes and attacks. */
function others(answer) {
  const groups = [["Stage 1’s categories", answer.categories], ["Attributes", answer.attributes], ["Attacks", answer.attacks]];
  return groups.filter(([, items]) => items?.length > 0).map(([name, items]) => [
    h("h3", { class: "small" }, name),
    h("ul", { class: "chips" }, items.map((item) => h("li", { class: item.flagged ? "flagged" : null },
      title(item.name), " ", h("b", {}, score(item.probability)), item.flagged && " flagged"))),
  ]);
}

function timings(stages, took) {
  const longest = Math.max(took, ...stages.map(total), 0.001);
  const rows = stages.map((stage) => [stageName(stage.name), total(stage), SEGMENTS.map(([key, name]) => [name, stage[key] ?? 0])]);
  rows.push(["Whole call, from this page", took, [["all", took]]]);
  return h("div", { class: "times" }, rows.map(([name, ms, parts]) => h("div", { class: "time" },
    h("span", { class: "name" }, name), h("span", { class: "value" }, ms === 0 ? "kept answer" : duration(ms)),
    h("span", { class: "strip", role: "img", "aria-label": `${name}: ${parts.map(([what, part]) => `${what} ${duration(part)}`).join(", ")}` },
      parts.map(([, part], index) => h("span", { class: `part-${parts.length === 1 ? 3 : index}`, at: { width: width(part / longest) } })))),
  ), h("p", { class: "key" }, SEGMENTS.map(([, name], index) => h("span", {}, h("i", { class: `part-${index}` }), name))));
}

const width = (share) => `${(100 * share).toFixed(2)}%`;
const total = (stage) => SEGMENTS.reduce((sum, [key]) => sum + (stage[key] ?? 0), 0);
