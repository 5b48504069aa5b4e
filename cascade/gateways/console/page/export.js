// The explored thresholds as a policy file that `cascade policy` takes.

import { h, notice, show } from "./dom.js";

const NAME = /^[a-z0-9][a-z0-9_.-]{0,63}$/;

/** The policy with these thresholds, as TOML. */
export function toml(start, rules, hazards, name, { rows, file }) {
  const policy = start.copy();
  policy.set("name", name);
  policy.set("route.low", rules.low);
  policy.set("stage1.unsafe_threshold", rules.flags);
  policy.set("route.high", rules.high);
  policy.set("merge.controversial_threshold", rules.doubt);
  policy.set("stage2.unsafe_threshold", rules.unsafe);
  hazards.forEach(({ slug }, index) => {
    const rule = rules.hazards[index];
    policy.set(`hazards.${slug}.threshold`, rule.threshold);
    if (rule.escalateAt <= 1) policy.set(`hazards.${slug}.escalate_at`, rule.escalateAt);
  });
  const readable = file.replace(/[^\x20-\x7e]/g, "_"); // a comment of TOML holds no control characters
  return `# Explored in Cascade's console over ${rows} rows of ${readable}. Nothing certifies it: cascade tune does that.\n${policy}`;
}

/** The card that downloads the policy and says how to use it, or what is wrong with its name. */
export class Export {
  #start;
  #hazards;
  #about;
  #rules = null;
  #name = h("input", { value: "explored", autocomplete: "off", spellcheck: "false", maxlength: 80 });
  #fault = h("div");
  #button = h("button", { type: "button", class: "main", on: { click: () => download(`${this.#name.value.trim()}.toml`, this.#text) } });
  #commands = h("pre", { class: "commands", tabindex: "0", role: "region", "aria-label": "Commands" });
  #file = h("pre", { tabindex: "0", role: "region", "aria-label": "The policy" });
  #text = "";

  constructor(start, hazards, about) {
    [this.#start, this.#hazards, this.#about] = [start, hazards, about];
    this.#name.addEventListener("input", () => this.#tell());
    this.element = h("section", { class: "card stack", "aria-label": "Policy" }, h("h2", {}, "Take the policy with you"),
      h("div", { class: "row bottom" }, h("label", { class: "field" }, "Name", this.#name), this.#button), this.#fault,
      this.#commands, h("details", {}, h("summary", {}, "Show the file"), this.#file));
  }

  /** Takes other thresholds. */
  update(rules) {
    this.#rules = rules;
    this.#tell();
  }

  #tell() {
    const name = this.#name.value.trim();
    const valid = NAME.test(name);
    this.#name.setAttribute("aria-invalid", String(!valid));
    this.#button.disabled = !valid;
    show(this.#fault, !valid && notice("bad", "That is no name for a policy",
      ["Lower-case letters, digits and _ . - are allowed, 64 of them at most; the first is a letter or a digit."]));
    if (!valid) return;
    this.#text = toml(this.#start, this.#rules, this.#hazards, name, this.#about);
    this.#button.textContent = `Download ${name}.toml`;
    this.#file.textContent = this.#text;
    this.#commands.textContent = `cascade policy validate ${name}.toml\ncascade policy diff server ${name}.toml\ncascade serve --policy ${name}.toml`;
  }
}

function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/toml" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
