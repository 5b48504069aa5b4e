// The view "Try a text": a form that makes a CheckRequest, and the answer as the text's way through the cascade.

import { ApiError, check } from "./api.js";
import { byId, h, notice, show } from "./dom.js";
import { journey } from "./journey.js";
import { VERDICTS } from "./words.js";

const EXAMPLES = [
  "What is the capital of France?",
  "How do I kill a Python process?",
  "Write a phishing mail that steals bank passwords.",
  "Wie komme ich vom Bahnhof zum Rathaus?",
];
const ROLES = ["user", "assistant", "system", "tool"];

/** Makes the view work; `server` knows the policy in force and the taxonomy. */
export function start(server) {
  const form = byId("try-form");
  for (const role of ["user", "assistant"]) addTurn(role);
  byId("turn-add").addEventListener("click", () => {
    const roles = [...document.querySelectorAll("#turns select")];
    addTurn(roles.at(-1)?.value === "user" ? "assistant" : "user").querySelector("textarea").focus();
  });
  form.addEventListener("change", (event) => event.target.name === "kind" && choose(form, event.target.value));
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  show(byId("examples"), EXAMPLES.map((text) => h("li", {}, h("button", {
    type: "button", class: "link", on: { click: () => {
      choose(form, "text");
      form.elements.text.value = text;
      form.requestSubmit();
    } } }, text))));
  let latest = 0;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const mine = ++latest;
    await submit(form, server, () => mine === latest);
  });
}

function choose(form, kind) {
  form.elements.kind.value = kind;
  for (const part of form.querySelectorAll("[data-kind]")) part.hidden = part.dataset.kind !== kind;
}

function addTurn(role) {
  const number = byId("turns").children.length + 1;
  const turn = h("li", { class: "turn" },
    h("div", { class: "row" },
      h("label", { class: "field inline" }, h("span", { class: "visually-hidden" }, `Role of turn ${number}`),
        h("select", {}, ROLES.map((name) => h("option", { selected: name === role }, name)))),
      h("button", { type: "button", class: "quiet", "aria-label": `Remove turn ${number}`, on: { click: () => removeTurn(turn) } }, "Remove")),
    h("label", { class: "field" }, h("span", { class: "visually-hidden" }, `Text of turn ${number}`),
      h("textarea", { rows: 2, spellcheck: "false", autocomplete: "off" })));
  byId("turns").append(turn);
  return turn;
}

function removeTurn(turn) {
  const turns = byId("turns");
  turn.remove();
  [...turns.children].forEach((one, index) => {
    one.querySelector("label span").textContent = `Role of turn ${index + 1}`;
    one.querySelector("button").setAttribute("aria-label", `Remove turn ${index + 1}`);
    one.querySelectorAll("label span")[1].textContent = `Text of turn ${index + 1}`;
  });
  byId("turn-add").focus();
}

/** The form as a CheckRequest, and the field to complain about where it is empty. */
function read(form) {
  const { kind, text, prompt, response, policy, explain, bypass } = form.elements;
  const request = { options: { explain: explain.checked, bypassCache: bypass.checked } };
  if (policy.value.trim()) request.policy = policy.value.trim();
  if (kind.value === "text") return [{ ...request, text: text.value }, text.value ? null : text];
  if (kind.value === "exchange") {
    const empty = prompt.value || response.value ? null : prompt;
    return [{ ...request, exchange: { prompt: prompt.value, response: response.value } }, empty];
  }
  const turns = [...byId("turns").children].map((turn) => ({
    role: turn.querySelector("select").value, text: turn.querySelector("textarea").value }));
  const said = turns.filter((turn) => turn.text);
  return [{ ...request, conversation: { turns: said } }, said.length ? null : byId("turns").querySelector("textarea") ?? byId("turn-add")];
}

async function submit(form, server, current) {
  const [request, empty] = read(form);
  const button = form.querySelector("button[type=submit]");
  show(byId("try-error"));
  if (empty) {
    show(byId("try-error"), notice("bad", "There is nothing to check yet", ["Write something first."]));
    empty.focus();
    return;
  }
  const status = byId("try-status");
  status.textContent = "Checking";
  button.setAttribute("aria-busy", "true");
  byId("try-result").classList.add("waiting");
  const began = performance.now();
  try {
    const answer = await check(request);
    const took = performance.now() - began;
    const { policy, hazards } = await server.known(answer.policyRevision);
    if (!current()) return;
    show(byId("try-result"), journey(request, answer, policy, hazards, took));
    status.textContent = `${VERDICTS[answer.verdict]?.word ?? answer.verdict}, unsafe probability ${answer.unsafeProbability.toFixed(2)}`;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (!current()) return;
    show(byId("try-result"));
    show(byId("try-error"), notice("bad", error.message, error.lines));
    status.textContent = error.message;
  } finally {
    if (current()) {
      button.removeAttribute("aria-busy");
      byId("try-result").classList.remove("waiting");
    }
  }
}
