// The texts with what fired in them: sentences that the score depends on where they were found out, else windows that
// carry it; darker where it is more. Offsets count code points, as the contract's do.

import { h, score } from "./dom.js";
import { fieldName, stageName } from "./words.js";

const LEVELS = [0.25, 0.5, 0.75]; // where a mark grows darker
const SHOWN = 20000; // code points of a field: more is not read by anybody, and slows the page

/** The fields of a request as {path: text}, in their order. */
export function fieldsOf(request) {
  if (request.exchange) return { "exchange.prompt": request.exchange.prompt, "exchange.response": request.exchange.response };
  if (request.conversation) {
    return Object.fromEntries(request.conversation.turns.map((turn, index) => [`conversation.turns[${index}].text`, turn.text]));
  }
  return { text: request.text };
}

/** Every field with its evidence marked, and a list of the spans. `explanation` may be absent. */
export function evidence(request, spans, explanation) {
  const fields = Object.entries(fieldsOf(request)).filter(([, text]) => text);
  const parts = explanation?.contributions ?? [];
  const most = Math.max(...parts.map((part) => part.drop));
  const marks = parts.length > 0
    ? parts.map((part) => ({ ...part, heat: part.drop / most, says: `Without it ${stageName(part.stage)} says ${score(part.drop)} less` }))
    : spans.map((span) => ({ ...span, heat: span.score, says: `${stageName(span.stage)}: ${score(span.score)}` }));
  return [
    h("p", { class: "hint" }, legend(marks.length, parts.length > 0, explanation)),
    fields.map(([path, text]) =>
      h("figure", { class: "passage" },
        h("figcaption", {}, fieldName(path)),
        h("p", { class: "read" }, marked(text, marks.filter((mark) => mark.field === path))))),
    parts.length > 0 && h("ol", { class: "parts" }, parts.map((part) => h("li", {}, h("b", {}, `−${score(part.drop)}`),
      ` without “${excerpt(request, part)}” (${fieldName(part.field)})`))),
    spans.length > 0 && h("details", { class: "spans" },
      h("summary", {}, spans.length === 1 ? "1 span" : `${spans.length} spans`),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Spans" }, h("table", {},
        h("thead", {}, h("tr", {}, ["Where", "Characters", "Stage", "Score"].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, spans.map((span) => h("tr", {},
          h("td", {}, fieldName(span.field)), h("td", { class: "n" }, `${Number(span.start)}–${Number(span.end)}`),
          h("td", {}, stageName(span.stage)), h("td", { class: "n" }, score(span.score)))))))),
  ];
}

function legend(marks, explained, explanation) {
  if (explained) return "Marked is what the score depends on, darker where it would fall by more.";
  const missing = explanation?.missing ? ` It was not found out which sentences carry it: ${explanation.missing}.` : "";
  return (marks > 0 ? "Marked are the windows that carry the scores, darker where they are higher." : "No part of it stands out.") + missing;
}

function excerpt(request, { field, start, end }) {
  const said = Array.from(fieldsOf(request)[field] ?? "").slice(Number(start), Number(end));
  return said.length > 80 ? `${said.slice(0, 79).join("")}…` : said.join("");
}

/** A text cut at the ends of its marks ({start, end, heat, says}); each piece is as dark as the darkest that covers it. */
export function marked(text, spans) {
  const all = Array.from(text);
  const characters = all.slice(0, SHOWN);
  const places = spans.map((span) => ({ ...span, start: Number(span.start), end: Number(span.end) }));
  const cuts = [0, characters.length, ...places.flatMap((span) => [span.start, span.end])];
  const edges = [...new Set(cuts)].filter((at) => at >= 0 && at <= characters.length).sort((a, b) => a - b);
  const pieces = edges.slice(1).map((end, index) => {
    const start = edges[index];
    const piece = characters.slice(start, end).join("");
    const over = places.filter((span) => span.start <= start && end <= span.end);
    if (over.length === 0) return piece;
    const heat = LEVELS.filter((level) => Math.max(...over.map((span) => span.heat)) >= level).length;
    return h("mark", { class: `heat-${heat}`, title: over.map((span) => span.says).join(", ") }, piece);
  });
  return all.length > SHOWN ? [...pieces, h("em", {}, ` … and ${all.length - SHOWN} characters more, which were read too`)] : pieces;
}
