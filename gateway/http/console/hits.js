// Hits: the passage with its words marked, and a bar of what each leg and the reranker gave.

import { element, part } from "./dom.js";

const LEGS = ["dense", "lexical", "sparse"];
export const SOURCES = [...LEGS, "reranker"];

export function hitItem(hit, place, bestScore) {
  const why = hit.provenance ?? {};
  const shares = contributions(hit, bestScore);
  return element("li", {},
    element("div", { class: "head" },
      element("span", { class: "rank" }, `${place}.`),
      element("span", { class: "title" }, ...title(hit)),
      element("span", { class: "id" }, hit.document.id)),
    element("p", { class: "passage long" }, ...passage(hit)),
    element("div", { class: "bar", role: "img", "aria-label": spoken(shares) },
      ...shares.map(([source, share]) => part(source, share))),
    element("p", { class: "facts" }, ...facts(hit, why)));
}

// A passage that does not fit gets a button that shows all of it.
export function offerWhole(passage) {
  if (passage.scrollHeight <= passage.clientHeight) {
    passage.classList.remove("long");
  } else if (!passage.nextElementSibling.matches("button")) {
    const button = element("button", { type: "button", class: "link" }, "Whole passage");
    button.addEventListener("click", () => { passage.classList.remove("long"); button.remove(); });
    passage.after(button);
  }
}

// What each source gave, as shares of the best hit's score: [["dense", 0.4], ...].
export function contributions(hit, bestScore) {
  const why = hit.provenance ?? {};
  const best = bestScore || 1;
  const fused = why.fusedScore || 1;
  const legs = LEGS.map((leg) =>
    [leg, ((why[leg]?.contribution ?? 0) / fused) * (why.fusedPart ?? 0) / best]);
  return [...legs, ["reranker", (why.rerankPart ?? 0) / best]].filter(([, share]) => share > 0);
}

function spoken(shares) {
  const parts = shares.map(([source, share]) => `${source} ${Math.round(100 * share)} percent`);
  return `Share of the best hit's score: ${parts.join(", ") || "none"}`;
}

function facts(hit, why) {
  const legs = LEGS.filter((leg) => why[leg]).map((leg) =>
    fact(leg, `rank ${why[leg].rank}, score ${digits(why[leg].score)}`));
  const reranked = why.rerankLogit === undefined ? [] : [fact("reranker", digits(why.rerankLogit))];
  const fused = fact("fused", `rank ${why.fusedRank ?? "?"}`);
  const origin = fact("shard", `${why.shard ?? 0}, generation ${why.generation ?? 0}`);
  return [fact("score", digits(hit.score)), ...legs, fused, ...reranked, origin];
}

function fact(name, value) {
  return element("span", {}, `${name} `, element("b", {}, value));
}

function digits(number) {
  return Number(number ?? 0).toPrecision(3);
}

function title(hit) {
  const text = hit.document.title;
  if (!text) return [hit.document.id];
  return marked(new TextEncoder().encode(text), 0, Infinity, hit.titleHighlights ?? []);
}

function passage(hit) {
  const bytes = new TextEncoder().encode(hit.document.text ?? "");
  const start = hit.passage?.startByte ?? 0;
  const end = hit.passage?.endByte ?? bytes.length;
  const shown = marked(bytes, start, end, hit.highlights ?? []);
  return [start > 0 ? "… " : "", ...shown, end < bytes.length ? " …" : ""];
}

// Spans are of bytes, as the protos count them.
function marked(bytes, start, end, spans) {
  const text = (from, to) => new TextDecoder().decode(bytes.subarray(from, to));
  const last = Math.min(end, bytes.length);
  const pieces = [];
  let at = start;
  for (const { startByte = 0, endByte = 0 } of spans) {
    pieces.push(text(at, startByte), element("mark", {}, text(startByte, endByte)));
    at = endByte;
  }
  return [...pieces, text(at, last)];
}
