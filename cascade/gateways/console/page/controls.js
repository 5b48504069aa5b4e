// The sliders of the explorer: thresholds that push each other so that the policy stays one that the server accepts.

import { h, score } from "./dom.js";
import { title } from "./words.js";

const STEP = 0.001;
const SLIDERS = [
  ["low", "Escalate from", "Stage 1’s score from which on stage 2 is asked (route.low)."],
  ["flags", "Stage 1 flags from", "Stage 1’s score from which on it says unsafe (stage1.unsafe_threshold)."],
  ["high", "Stage 1 is sure from", "From here on stage 2 cannot clear a text: it stays controversial (route.high)."],
  ["doubt", "Controversial from", "Merged score (merge.controversial_threshold)."],
  ["unsafe", "Unsafe from", "Merged score (stage2.unsafe_threshold)."],
];
const ORDERS = [["low", "flags", "high"], ["doubt", "unsafe"]]; // each must rise

/** Sliders with numbers beside them; `rules` and `costs` are what they say now. */
export class Controls {
  #inputs = new Map();
  #changed;

  constructor(rules, taxonomy, changed) {
    this.#changed = changed;
    this.rules = { ...rules, hazards: rules.hazards.map((rule) => ({ ...rule })) };
    this.costs = { stage1: 1, stage2: 4 };
    const first = { ...this.rules, hazards: this.rules.hazards.map((rule) => ({ ...rule })) };
    this.element = h("section", { class: "card stack", "aria-label": "Thresholds" },
      h("h2", {}, "Thresholds"), SLIDERS.map((slider) => this.#slider(...slider)), this.#costs(),
      h("button", { type: "button", class: "quiet start", on: { click: () => this.#reset(first) } }, "Back to the start"));
    this.hazardNote = h("p", { class: "hint" }, "A hazard is flagged where its probability reaches its threshold. Recall and false positives count rows labelled with it.");
    this.hazardCells = taxonomy.map((hazard, index) => this.#hazard(hazard, index));
    this.hazards = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Hazards" }, h("table", { class: "hazard-table" },
      h("thead", {}, h("tr", {}, ["Hazard", "Threshold", "Flagged", "Recall", "False positives"].map((name, index) =>
        h("th", { scope: "col", class: index > 1 ? "n" : null }, name)))),
      h("tbody", {}, this.hazardCells.map((cells) => cells.row))));
  }

  #slider(key, name, says) {
    const id = `slider-${key}`;
    const range = h("input", { type: "range", id, min: 0, max: 1, step: STEP, value: this.rules[key], "aria-describedby": `${id}-says` });
    const exact = h("input", { type: "number", min: 0, max: 1, step: STEP, value: this.rules[key], "aria-label": `${name}, as a number` });
    range.addEventListener("input", () => this.#set(key, Number(range.value)));
    exact.addEventListener("change", () => this.#set(key, valid(exact.value) ? Number(exact.value) : this.rules[key]));
    this.#inputs.set(key, [range, exact]);
    return h("div", { class: "slider" }, h("label", { for: id }, name), exact, range, h("p", { class: "hint", id: `${id}-says` }, says));
  }

  #hazard({ slug, code }, index) {
    const rule = this.rules.hazards[index];
    const name = `Threshold of ${title(slug)}`;
    const range = h("input", { type: "range", min: 0, max: 1, step: 0.01, value: rule.threshold, "aria-label": name });
    const shown = h("output", {}, score(rule.threshold));
    const cells = { flagged: h("td", { class: "n" }), recall: h("td", { class: "n" }), alarms: h("td", { class: "n" }) };
    range.addEventListener("input", () => this.#setHazard(index, Number(range.value)));
    this.#inputs.set(index, [range, shown]);
    return { ...cells, row: h("tr", {}, h("th", { scope: "row" }, h("span", { class: "code" }, code), " ", title(slug)),
      h("td", {}, h("div", { class: "inline-slider" }, range, shown)), cells.flagged, cells.recall, cells.alarms) };
  }

  #costs() {
    const field = (key, name) => {
      const input = h("input", { type: "number", min: 0, step: "any", value: this.costs[key] });
      input.addEventListener("input", () => {
        const value = Number(input.value);
        if (input.value !== "" && Number.isFinite(value) && value >= 0) this.costs = { ...this.costs, [key]: value };
        this.#changed();
      });
      return h("label", { class: "field" }, name, input);
    };
    return h("fieldset", { class: "costs" }, h("legend", {}, "Cost of a text, in a unit of your own"),
      h("div", { class: "row" }, field("stage1", "at stage 1"), field("stage2", "at stage 2")));
  }

  /** Sets one threshold; those that it passes go with it. */
  #set(key, value) {
    this.rules[key] = value;
    for (const order of ORDERS.filter((names) => names.includes(key))) {
      const at = order.indexOf(key);
      order.slice(at + 1).forEach((name) => { this.rules[name] = Math.max(this.rules[name], value); });
      order.slice(0, at).forEach((name) => { this.rules[name] = Math.min(this.rules[name], value); });
    }
    this.#tell();
  }

  #setHazard(index, value) {
    const rule = this.rules.hazards[index];
    rule.threshold = value;
    if (rule.escalateAt <= 1) rule.escalateAt = Math.min(rule.escalateAt, value); // the server wants it no higher
    this.#tell();
  }

  #reset(first) {
    this.rules = { ...first, hazards: first.hazards.map((rule) => ({ ...rule })) };
    this.#tell();
  }

  #tell() {
    for (const [key, inputs] of this.#inputs) {
      const value = typeof key === "number" ? this.rules.hazards[key].threshold : this.rules[key];
      inputs.forEach((input) => { input.value = input instanceof HTMLOutputElement ? score(value) : String(Number(value.toFixed(4))); });
    }
    this.#changed();
  }
}

const valid = (text) => text !== "" && Number(text) >= 0 && Number(text) <= 1;
