// Elements and numbers for the page. Text goes in as text alone: nothing here, or elsewhere on the page, parses markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. `attributes` may hold `class`, `on` ({event: listener}), `at` (custom CSS properties by name) and plain
 * attributes, of which null, undefined and false are left out. Children are nodes, strings, numbers or lists of them.
 */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") Object.entries(value).forEach(([event, listener]) => element.addEventListener(event, listener));
    else if (name === "at") Object.entries(value).forEach(([key, size]) => element.style.setProperty(`--${key}`, size));
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false).map(node));
  return element;
}

function node(child) {
  return child instanceof Node ? child : String(child);
}

/** Puts new children in place of all that an element has. */
export function show(element, ...children) {
  element.replaceChildren(...children.flat(3).filter(Boolean).map(node));
}

export const byId = (id) => document.getElementById(id);

/** A probability with as many digits as it takes to read it: 0.98, 0.1252, 0.0004. */
export function score(value) {
  if (value === undefined || value === null || Number.isNaN(value)) return "–";
  if (value > 0 && value < 0.001) return value < 0.0001 ? "< 0.0001" : value.toFixed(4);
  return value.toFixed(3).replace(/(\.\d\d)0$/, "$1");
}

/** A share as per cent. */
export function percent(share, digits = 1) {
  return Number.isFinite(share) ? `${(100 * share).toFixed(digits)}\u00a0%` : "–";
}

/** A time given in milliseconds. */
export function duration(ms) {
  if (!Number.isFinite(ms)) return "–";
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return ms >= 100 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(1)} ms`;
}

/** A count, grouped by thousands. */
export function count(value) {
  return Number.isFinite(value) ? Math.round(value).toLocaleString("en-GB") : "–";
}

/** A rate or another small number. */
export function number(value, digits = 1) {
  return Number.isFinite(value) ? value.toLocaleString("en-GB", { maximumFractionDigits: digits, minimumFractionDigits: digits }) : "–";
}

/** Many of something: plural(1, "window") is "1 window". */
export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** A box that says what went wrong, or what is to be known; `kind` is "bad", "warn" or "info". */
export function notice(kind, title, lines = []) {
  return h("div", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : null },
    h("p", {}, h("strong", {}, title)),
    lines.length === 1 ? h("p", {}, lines[0]) : lines.length > 1 && h("ul", {}, lines.map((line) => h("li", {}, line))));
}
