// What a policy does with scored rows: the decisions of cascade/tune/outcomes.py, over arrays. A test compares the two.
//
// Audits are drawn at random: they count in what is escalated and what it costs, as the share that is to be expected,
// and not in verdicts.

const EDGE = 1e-15;
const MERGES = {
  max: (a, b) => sigmoid(Math.max(a, b)),
  noisy_or: (a, b) => 1 - sigmoid(-a) * sigmoid(-b),
  logit_mean: (a, b) => sigmoid((a + b) / 2),
  stacker: (a, b, { w1, w2, bias }) => sigmoid(w1 * a + w2 * b + bias),
};

/** The numbers of a policy that decide, from a PolicyFile; of hazards in the taxonomy's order. */
export function rulesOf(policy, hazards) {
  const get = (path, otherwise) => policy.get(path) ?? otherwise;
  return {
    low: get("route.low", 0.08), flags: get("stage1.unsafe_threshold", 0.62), high: get("route.high", 0.97),
    unsafe: get("stage2.unsafe_threshold", 0.55), doubt: get("merge.controversial_threshold", 0.44),
    strict: get("merge.mode", "strict") === "strict", audits: get("route.audit_rate", 0.01),
    hazards: hazards.map(({ slug }) => ({
      threshold: get(`hazards.${slug}.threshold`, 0.5),
      escalateAt: get(`hazards.${slug}.escalate_at`, 2),
      blocks: get(`hazards.${slug}.action`) === "BLOCK",
    })),
  };
}

/** Rows as arrays under a policy's merge rule. */
export function sampleOf(rows, policy, { hazards, labels, unread }) {
  const blind = new Set(unread);
  const merge = MERGES[policy.get("merge.rule") ?? "stacker"];
  const weights = { w1: policy.get("merge.stacker.w1") ?? 0.35, w2: policy.get("merge.stacker.w2") ?? 0.65, bias: policy.get("merge.stacker.bias") ?? 0 };
  const each = (of) => Float64Array.from(rows, of);
  return {
    rows: rows.length,
    unsafe: rows.map((row) => row.unsafe),
    carries: hazards.map(({ slug }) => rows.map((row) => row.unsafe !== false && row.labels.some((label) => labels[label] === slug))),
    stage1: each((row) => row.stage1),
    merged: each((row) => {
      if (row.stage2 === null) return NaN;
      const merged = merge(logit(row.stage1), logit(row.stage2), weights);
      return row.triggers.some((name) => blind.has(name)) ? Math.max(merged, sigmoid(logit(row.stage2))) : merged;
    }),
    near: hazards.map(({ near }) => each((row) => Math.max(-1, ...near.map((label) => row.stage1Labels[label] ?? -1)))),
    both: hazards.map(({ slug }) => each((row) => row.hazards[slug] ?? -1)),
    alone: hazards.map(({ slug }) => each((row) => row.stage1Hazards[slug] ?? -1)),
    triggered: rows.map((row) => row.triggers.length > 0),
  };
}

/** What hazards and triggers alone decide of each row, apart from the thresholds on the scores. */
export function factsOf(sample, rules) {
  const flags = () => new Uint8Array(sample.rows);
  const facts = { forced: Uint8Array.from(sample.triggered, Number), flaggedBoth: flags(), flaggedAlone: flags(), blockedBoth: flags(), blockedAlone: flags() };
  rules.hazards.forEach((rule, hazard) => {
    for (let row = 0; row < sample.rows; row += 1) {
      const both = sample.both[hazard][row] >= rule.threshold && sample.both[hazard][row] >= 0;
      const alone = sample.alone[hazard][row] >= rule.threshold && sample.alone[hazard][row] >= 0;
      if (sample.near[hazard][row] >= rule.escalateAt) facts.forced[row] = 1;
      if (both) facts.flaggedBoth[row] = 1;
      if (alone) facts.flaggedAlone[row] = 1;
      if (both && rule.blocks) facts.blockedBoth[row] = 1;
      if (alone && rule.blocks) facts.blockedAlone[row] = 1;
    }
  });
  return facts;
}

/** Counts over all rows; `unknown` would be escalated, but stage 2 never read them: they are in no other count. */
export function countAll(sample, facts, rules) {
  const found = { rows: sample.rows, escalated: 0, unknown: 0, unsafe: 0, harmless: 0, hits: 0, alarms: 0, blocked: 0, doubtful: 0 };
  for (let row = 0; row < sample.rows; row += 1) {
    const p = sample.stage1[row];
    const goesOn = p >= rules.low || p >= rules.flags || facts.forced[row] === 1;
    found.escalated += goesOn;
    if (goesOn && Number.isNaN(sample.merged[row])) {
      found.unknown += 1;
      continue;
    }
    const bad = goesOn ? sample.merged[row] >= rules.unsafe || facts.blockedBoth[row] : facts.blockedAlone[row];
    const named = goesOn ? facts.flaggedBoth[row] : facts.flaggedAlone[row];
    const doubtful = !bad && rules.strict && ((goesOn ? sample.merged[row] : p) >= rules.doubt || p >= rules.high || named);
    found.blocked += bad ? 1 : 0;
    found.doubtful += doubtful ? 1 : 0;
    if (sample.unsafe[row] === true) {
      found.unsafe += 1;
      found.hits += bad ? 1 : 0;
    } else if (sample.unsafe[row] === false) {
      found.harmless += 1;
      found.alarms += bad ? 1 : 0;
    }
  }
  return found;
}

/** Shares from counts; NaN where nothing counts. `costs` are those of a text at each stage. */
export function figures(found, rules, costs) {
  const passed = 1 - found.escalated / found.rows;
  const escalation = 1 - passed * (1 - rules.audits);
  const known = found.rows - found.unknown;
  const recall = found.hits / found.unsafe, precision = found.hits / (found.hits + found.alarms);
  return {
    recall, precision, escalation, falsePositives: found.alarms / found.harmless,
    f1: (2 * found.hits) / (found.hits + found.alarms + found.unsafe),
    blocked: found.blocked / known, doubtful: found.doubtful / known, cost: costs.stage1 + escalation * costs.stage2,
  };
}

/** For each hazard: how many rows are flagged, carry it, are flagged rightly, and harmless rows flagged. */
export function countHazards(sample, facts, rules) {
  return rules.hazards.map((rule, hazard) => {
    const found = { flagged: 0, carriers: 0, hits: 0, harmless: 0, alarms: 0 };
    for (let row = 0; row < sample.rows; row += 1) {
      const p = sample.stage1[row];
      const goesOn = p >= rules.low || p >= rules.flags || facts.forced[row] === 1;
      if (goesOn && Number.isNaN(sample.merged[row])) continue;
      const score = goesOn ? sample.both[hazard][row] : sample.alone[hazard][row];
      const flagged = score >= rule.threshold && score >= 0 ? 1 : 0;
      found.flagged += flagged;
      if (sample.carries[hazard][row]) {
        found.carriers += 1;
        found.hits += flagged;
      }
      if (sample.unsafe[row] === false) {
        found.harmless += 1;
        found.alarms += flagged;
      }
    }
    return found;
  });
}

/** The 95 % interval of a share by Wilson (1927). */
export function interval(successes, n) {
  if (!n) return [NaN, NaN];
  const z = 1.96, p = successes / n, wide = 1 + (z * z) / n;
  const middle = (p + (z * z) / (2 * n)) / wide;
  const half = (z / wide) * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

function logit(p) {
  const kept = Math.min(Math.max(p, EDGE), 1 - EDGE);
  return Math.log(kept) - Math.log1p(-kept);
}

const sigmoid = (z) => 0.5 * (1 + Math.tanh(0.5 * z)); // as stages/stage.py: no overflow on either side
