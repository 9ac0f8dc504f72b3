// What the form says, as a SearchRequest in JSON. What nobody touched is left out, so that the
// collection's own defaults hold.

import { byId } from "./dom.js";

const SLIDERS = ["dense-weight", "lexical-weight", "sparse-weight", "depth", "rerank-weight", "deadline"];
const CHOICES = ["method", "rerank", "page-size"];
const touched = new Set();

export function watchSettings() {
  for (const id of SLIDERS) {
    byId(id).addEventListener("input", () => { touched.add(id); show(id); });
    show(id);
  }
  for (const id of [...CHOICES, "operators"]) byId(id).addEventListener("change", count);
  byId("defaults").addEventListener("click", reset);
  count();
}

export function fitCollection(collection) {
  const sparse = Boolean(collection?.sparseEncoder?.model);
  byId("sparse-weight").disabled = !sparse;
  for (const option of byId("mode").options) {
    if (option.value === "SEARCH_MODE_SPARSE") option.disabled = !sparse;
  }
  if (byId("mode").selectedOptions[0].disabled) byId("mode").selectedIndex = 0;
}

export function searchRequest() {
  const request = {
    query: byId("query").value,
    mode: byId("mode").value,
    pageSize: Number(byId("page-size").value),
    highlight: true,
  };
  const filter = byId("filter").value.trim();
  if (filter) request.filter = filter;
  if (byId("operators").checked) request.querySyntax = "QUERY_SYNTAX_OPERATORS";
  const fusion = fusionWish();
  if (Object.keys(fusion).length) request.fusion = fusion;
  const rerank = rerankWish();
  if (Object.keys(rerank).length) request.rerank = rerank;
  return request;
}

export function deadlineMilliseconds() {
  return slid("deadline");
}

function fusionWish() {
  return without({
    method: byId("method").value || undefined,
    denseWeight: slid("dense-weight"),
    lexicalWeight: slid("lexical-weight"),
    sparseWeight: byId("sparse-weight").disabled ? undefined : slid("sparse-weight"),
  });
}

function rerankWish() {
  const choice = byId("rerank").value;
  return without({
    enabled: choice ? choice === "on" : undefined,
    depth: slid("depth"),
    weight: slid("rerank-weight"),
  });
}

function slid(id) {
  return touched.has(id) ? Number(byId(id).value) : undefined;
}

function without(values) {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

function show(id) {
  const output = byId(id).parentElement.querySelector("output");
  output.textContent = touched.has(id) ? byId(id).value : "default";
  output.classList.toggle("open", !touched.has(id));
  count();
}

function count() {
  const chosen = CHOICES.filter((id) => byId(id).selectedIndex > 0).length;
  const changes = touched.size + chosen + (byId("operators").checked ? 1 : 0);
  byId("changed").textContent = changes ? `· ${changes} changed` : "· as the collection says";
}

function reset() {
  touched.clear();
  for (const id of SLIDERS) {
    byId(id).value = byId(id).defaultValue;
    show(id);
  }
  for (const id of CHOICES) byId(id).selectedIndex = 0;
  byId("operators").checked = false;
  count();
}
