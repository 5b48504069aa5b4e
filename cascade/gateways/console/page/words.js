// The contract's names in the words of people. A test keeps the triggers and reasons in step with the server's.

export const VERDICTS = {
  VERDICT_SAFE: { word: "Safe", tone: "safe", says: "Nothing was found that the policy objects to." },
  VERDICT_CONTROVERSIAL: { word: "Controversial", tone: "doubt", says: "Between safe and unsafe, or the stages disagree." },
  VERDICT_UNSAFE: { word: "Unsafe", tone: "unsafe", says: "Unsafe under the policy." },
};

export const ACTIONS = {
  ACTION_ALLOW: "Let it pass",
  ACTION_REVIEW: "Have it reviewed",
  ACTION_BLOCK: "Block it",
};

export const REASONS = {
  ROUTE_REASON_PASSED: "Stage 1 was sure that it is safe. Stage 2 was not asked.",
  ROUTE_REASON_FLAGGED: "Stage 1 says unsafe, so stage 2 judges again and names the hazards.",
  ROUTE_REASON_UNCERTAIN: "Stage 1 is unsure, so stage 2 judges too.",
  ROUTE_REASON_TRIGGERED: "Stage 1’s score is not to be trusted on this text, so stage 2 judges too.",
  ROUTE_REASON_SENSITIVE_HAZARD: "A hazard that is never left to one stage may be near, so stage 2 judges too.",
  ROUTE_REASON_AUDITED: "Stage 1 would have let it pass. It was drawn for the random audit, so stage 2 judges too.",
  ROUTE_REASON_STAGE2_UNAVAILABLE: "Stage 2 was wanted but could not answer.",
};

export const SHORT_REASONS = {
  ROUTE_REASON_FLAGGED: "Flagged by stage 1",
  ROUTE_REASON_UNCERTAIN: "Stage 1 unsure",
  ROUTE_REASON_TRIGGERED: "A trigger fired",
  ROUTE_REASON_SENSITIVE_HAZARD: "Sensitive hazard near",
  ROUTE_REASON_AUDITED: "Random audit",
  ROUTE_REASON_STAGE2_UNAVAILABLE: "Stage 2 unavailable",
};

export const TRIGGERS = {
  unread_script: "Much of it is in a script that stage 1 does not read.",
  unread_language: "It is not in English, the language that stage 1 reads.",
  views_disagree: "Undisguised, the text scores quite differently.",
  decoded_payload: "It holds encoded text, which was decoded and read.",
  case_noise: "Upper and lower case are mixed as if to hide words.",
  odd_words: "Many of its words are odd, as in a disguised text.",
  mixed_scripts: "Letters of several scripts are mixed within words.",
  repetitive: "It says the same again and again.",
  no_judge: "Stage 1 names hazards, and cannot tell safe from unsafe.",
  very_short: "It is a word or two, which say little by themselves.",
};

export const MERGES = {
  max: "the more alarmed stage counts",
  noisy_or: "either stage may be right",
  logit_mean: "both stages count the same",
  stacker: "both stages, weighed",
  stage1: "stage 1 alone",
};

/** A slug as a name: "child_exploitation" is "Child exploitation". */
export function title(slug) {
  const words = String(slug).replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** A field's path as a name: "conversation.turns[2].text" is "Turn 3". */
export function fieldName(path) {
  const turn = /^conversation\.turns\[(\d+)\]\.text$/.exec(path);
  if (turn) return `Turn ${Number(turn[1]) + 1}`;
  return { text: "Text", "exchange.prompt": "Prompt", "exchange.response": "Answer" }[path] ?? path;
}

/** "stage1" is "Stage 1". */
export const stageName = (name) => title(name).replace(/(\d)/, " $1");
