// Score files -> rows: JSONL as `cascade tune`, `cascade scan` and the audit log write it, or CSV. Gzipped or not.
//
// A row: {unsafe: true|false|null, labels, stage1, stage2 (null: it was not asked), stage1Labels, hazards, stage1Hazards,
// triggers}, probabilities calibrated. `hazards` are those of an answer of both stages, `stage1Hazards` of stage 1 alone.

const MOST_BYTES = 512 * 1024 * 1024;
const TRUE = new Set(["1", "true", "unsafe", "yes"]);
const FALSE = new Set(["0", "false", "safe", "no"]);

/** A file that cannot be used; the message says where and why. */
export class ScoresError extends Error {}

/**
 * Reads a file.
 *
 * @returns {Promise<{rows: object[], models: object|null, skipped: number}>} `skipped` lines of a log were no checks
 */
export async function readFile(file, slugs) {
  if (file.size > MOST_BYTES) throw new ScoresError("The file is larger than 512 MB.");
  const text = decode(await bytes(file));
  if (!text.trim()) throw new ScoresError("The file is empty.");
  const start = text.trimStart();
  const found = start.startsWith("{") ? fromJsonl(text, new Set(slugs)) : start.startsWith("[")
    ? fail("This is one JSON value. A line for each row is wanted (JSONL).") : fromCsv(text, new Set(slugs));
  if (found.rows.length === 0) throw new ScoresError("The file has no rows.");
  return found;
}

async function bytes(file) {
  const head = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  if (head[0] !== 0x1f || head[1] !== 0x8b) return file.arrayBuffer();
  const reader = file.stream().pipeThrough(new DecompressionStream("gzip")).getReader();
  const parts = [];
  let size = 0;
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      size += part.value.length;
      if (size > MOST_BYTES) throw new ScoresError("Unpacked, the file is larger than 512 MB.");
      parts.push(part.value);
    }
  } catch (error) {
    if (error instanceof ScoresError) throw error;
    throw new ScoresError("The gzipped file is damaged.");
  }
  return new Blob(parts).arrayBuffer();
}

function decode(buffer) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(buffer);
  } catch {
    throw new ScoresError("The file is not text in UTF-8.");
  }
}

function fromJsonl(text, slugs) {
  const rows = [];
  let models = null, skipped = 0;
  text.split("\n").forEach((line, index) => {
    if (!line.trim()) return;
    const where = `Line ${index + 1}`;
    const raw = object(line, where, index);
    if ("scored" in raw) models = raw.scored?.models ?? null;
    else if ("method" in raw && "content" in raw && !answered(raw)) skipped += 1; // the log of another call, or a refusal
    else if ("result" in raw) rows.push(ofAnswer(raw, where));
    else if ("text" in raw && !("stage1" in raw)) fail(`${where}: a text without scores. Run cascade tune on this file and take its OUT.scores.jsonl.`);
    else rows.push(ofRow(raw, where, slugs));
  });
  return { rows, models, skipped };
}

function object(line, where, index) {
  let raw;
  try {
    raw = JSON.parse(line);
  } catch {
    fail(index === 0 && line.trim() === "{" ? "This is one JSON value. A line for each row is wanted (JSONL)." : `${where}: not JSON.`);
  }
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) fail(`${where}: not a JSON object.`);
  return raw;
}

const answered = (raw) => Array.isArray(raw.result?.stages) && raw.result.stages.length > 0;

function ofRow(raw, where, slugs) {
  const known = (scores) => {
    const stranger = Object.keys(scores).find((slug) => !slugs.has(slug));
    return stranger === undefined ? scores : fail(`${where}: ${JSON.stringify(stranger.slice(0, 40))} is no hazard.`);
  };
  return {
    ...labels(raw, where),
    stage1: probability(raw.stage1, "stage1", where),
    stage2: raw.stage2 === null ? null : probability(raw.stage2, "stage2", where),
    stage1Labels: probabilities(raw.stage1_labels, where),
    hazards: known(probabilities(raw.hazards, where)),
    stage1Hazards: known(probabilities(raw.stage1_hazards, where)),
    triggers: strings(raw.triggers, "triggers", where),
  };
}

function ofAnswer(raw, where) {
  if (!answered(raw)) fail(`${where}: no stage answered.`);
  const { result } = raw;
  const stages = Object.fromEntries(result.stages.map((stage) => [stage?.name, stage]));
  if (!stages.stage1) fail(`${where}: stage 1 did not answer.`);
  const named = (items, key) => probabilities(Object.fromEntries((items ?? []).filter((item) => item.probability !== undefined)
    .map((item) => [item[key], item.probability])), where);
  const hazards = named(result.hazards, "slug");
  const both = Boolean(stages.stage2);
  return {
    ...labels(raw, where),
    stage1: probability(stages.stage1.calibratedProbability, "stage1", where),
    stage2: both ? probability(stages.stage2.calibratedProbability, "stage2", where) : null,
    stage1Labels: named(result.categories, "name"),
    hazards: both ? hazards : {},
    stage1Hazards: both ? {} : hazards,
    triggers: strings(result.route?.triggers, "triggers", where),
  };
}

/** CSV with a header. `labels` and `triggers` are parted by semicolons; a column named like a hazard holds its score. */
function fromCsv(text, slugs) {
  const lines = records(text);
  const names = lines[0].map((name) => name.trim());
  const missing = ["unsafe", "stage1", "stage2"].filter((name) => !names.includes(name));
  if (missing.length > 0) fail(`The first line names no column ${missing.join(", ")}. Wanted are unsafe, stage1 and stage2.`);
  const rows = lines.slice(1).map((cells, index) => {
    const where = `Row ${index + 1}`;
    if (cells.length !== names.length) fail(`${where}: ${cells.length} cells, but the first line has ${names.length}.`);
    const raw = Object.fromEntries(names.map((name, at) => [name, cells[at].trim()]));
    const numeric = (name) => (raw[name] === "" ? Number.NaN : Number(raw[name]));
    const list = (name) => (raw[name] ?? "").split(";").map((one) => one.trim()).filter(Boolean);
    const scored = names.filter((name) => slugs.has(name) && raw[name] !== "");
    return ofRow({
      unsafe: truth(raw.unsafe, where), labels: list("labels"), triggers: list("triggers"),
      stage1: numeric("stage1"), stage2: raw.stage2 === "" ? null : numeric("stage2"),
      hazards: Object.fromEntries(scored.map((name) => [name, numeric(name)])),
    }, where, slugs);
  });
  return { rows, models: null, skipped: 0 };
}

/** The records of a CSV file (RFC 4180), blank lines left out. */
function records(text) {
  const found = [];
  let record = [], cell = "", quoted = false;
  const end = () => {
    record.push(cell);
    if (record.length > 1 || record[0].trim()) found.push(record);
    [record, cell] = [[], ""];
  };
  for (let at = 0; at < text.length; at += 1) {
    const letter = text[at];
    if (quoted) {
      if (letter !== '"') cell += letter;
      else if (text[at + 1] === '"') [cell, at] = [`${cell}"`, at + 1];
      else quoted = false;
    } else if (letter === '"' && cell === "") quoted = true;
    else if (letter === ",") [record, cell] = [[...record, cell], ""];
    else if (letter === "\n") end();
    else if (letter !== "\r") cell += letter;
  }
  if (quoted) fail("A quoted cell does not end.");
  end();
  return found.length ? found : [[""]];
}

function truth(cell, where) {
  const word = cell.toLowerCase();
  if (word === "") return null;
  return TRUE.has(word) ? true : FALSE.has(word) ? false : fail(`${where}: unsafe must be 1, 0 or empty.`);
}

function labels(raw, where) {
  const { unsafe = null } = raw;
  if (![true, false, 1, 0, null].includes(unsafe)) fail(`${where}: unsafe must be 1, 0 or null.`);
  return { unsafe: unsafe === null ? null : Boolean(unsafe), labels: strings(raw.labels, "labels", where) };
}

function strings(value, name, where) {
  const list = value ?? [];
  return Array.isArray(list) ? list.map(String) : fail(`${where}: ${name} must be a list.`);
}

function probabilities(value, where) {
  const scores = value ?? {};
  if (typeof scores !== "object" || Array.isArray(scores)) fail(`${where}: scores of labels must be an object.`);
  for (const [name, score] of Object.entries(scores)) probability(score, JSON.stringify(name.slice(0, 40)), where);
  return scores;
}

function probability(value, name, where) {
  if (typeof value !== "number" || !Number.isFinite(value)) fail(`${where}: the score of ${name} is no number.`);
  if (value < 0 || value > 1) fail(`${where}: the score of ${name} lies outside of 0 to 1. Calibrated probabilities are wanted.`);
  return value;
}

function fail(message) {
  throw new ScoresError(message);
}
