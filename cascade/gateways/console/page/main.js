// The page's frame: which view is shown, the token, light and dark, and what is known of the server.

import { ApiError, getJson, getText, hasToken, onTokenWanted, setToken } from "./api.js";
import { byId } from "./dom.js";
import { PolicyFile } from "./toml.js";
import * as attempt from "./try.js";

const VIEWS = { try: "Try a text", thresholds: "Thresholds", traffic: "Traffic" };
// The two other views are loaded when they are first looked at.
const LATER = { thresholds: () => import("./explore.js"), traffic: () => import("./traffic.js") };

/** What the server says of itself, asked as seldom as possible. */
class Server {
  #policy = null;
  #taxonomy = null;

  /** The policy in force as a PolicyFile with `revision`; null where this token may not read it. */
  async policy() {
    try {
      const { policy } = await getJson("/v1/policy", { quiet: true });
      this.#policy = Object.assign(new PolicyFile(policy.toml), { revision: policy.revision });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#policy = null;
    }
    return this.#policy;
  }

  /** The policy that comes with the embedded models as a PolicyFile with `fittedOn`, their names and revisions. */
  async defaultPolicy() {
    const text = await getText("/console/default-policy.toml", { quiet: true });
    const fittedOn = /^# Fitted on (.+)$/m.exec(text)?.[1].split(" and ") ?? [];
    return Object.assign(new PolicyFile(text), { fittedOn });
  }

  /** The models that serve; none where this token may not know them. */
  async models() {
    return getJson("/v1/models", { quiet: true }).then((answer) => answer.data ?? [], () => []);
  }

  /** Hazards and labels. */
  async taxonomy() {
    this.#taxonomy ??= await getJson("/console/taxonomy.json", { quiet: true });
    return this.#taxonomy;
  }

  /** The hazards, and the thresholds of the policy that gave an answer; null where they are not known. */
  async known(revision) {
    const [{ hazards }, policy] = await Promise.all([
      this.taxonomy(), this.#policy?.revision === revision ? this.#policy : this.policy()]);
    return { hazards, policy: policy?.revision === revision ? policy.values() : null };
  }

  /** A line about what serves. */
  async describe() {
    const named = (await this.models()).map((model) => `${model.stage}: ${model.name}@${model.revision}`);
    const policy = await this.policy();
    return [...named, policy && `policy ${policy.get("name")} ${policy.revision}`].filter(Boolean).join("  ·  ");
  }
}

const server = new Server();
const begun = new Map();

/** The view that the address names, the first one without a name; null if it names something else. */
function addressed() {
  const name = location.hash.slice(1) || "try";
  return Object.hasOwn(VIEWS, name) ? name : null;
}

async function openView(name, focus) {
  for (const view of Object.keys(VIEWS)) byId(`view-${view}`).hidden = view !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${VIEWS[name]} · Cascade`;
  scrollTo(0, 0);
  await begin(name);
  if (focus) byId(`${name}-title`).focus({ preventScroll: true });
}

/** Makes a view work, once. Until then nothing in it can be pressed, or the press would be lost. */
function begin(name) {
  if (!begun.has(name)) begun.set(name, start(name));
  return begun.get(name);
}

async function start(name) {
  const view = name === "try" ? attempt : await LATER[name]();
  view.start(server);
  byId(`view-${name}`).inert = false;
}

/** Asks for a token; resolves to it, or to null if the asking was given up. */
function askForToken(why) {
  const dialog = byId("token-dialog");
  if (dialog.open) return Promise.resolve(null);
  byId("token").value = "";
  byId("token-why").textContent = `${why} It is kept in this tab’s memory alone, and is gone when you reload.`;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const given = byId("token").value;
      byId("token").value = "";
      resolve(dialog.returnValue === "given" && given.trim() ? given : null);
    }, { once: true });
  });
}

async function describeServer() {
  byId("server").textContent = (await server.describe()) || "What serves is not told to this caller.";
  byId("token-open").textContent = hasToken() ? "Token set" : "Token";
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("token-dialog").close("given");
});
byId("token-cancel").addEventListener("click", () => byId("token-dialog").close(""));
byId("token-open").addEventListener("click", async () => {
  const given = await askForToken("Sent with every call of this page.");
  if (given !== null) setToken(given);
  await describeServer();
});
onTokenWanted(async (why) => {
  const given = await askForToken(why);
  if (given !== null) byId("token-open").textContent = "Token set";
  return given;
});
byId("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
});
// Without a change of the address: it names the view.
document.querySelector("a.skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
addEventListener("hashchange", () => {
  const name = addressed();
  if (name) openView(name, true);
});

await openView(addressed() ?? "try", false);
await describeServer();
