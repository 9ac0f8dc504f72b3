// How an answer was made: where the time went, what was used, what the filter did.

import { element, milliseconds, part, plainName, table, whole } from "./dom.js";

export function insight(answer) {
  return [
    section("Where the time went", timeline(answer)),
    section("What was used", pairs(used(answer))),
    ...(answer.filterPlan ? [section("Filter", pairs(filterPlan(answer.filterPlan)))] : []),
    section("Shards", shards(answer)),
    element("details", {}, element("summary", {}, "The reply as JSON"),
      element("pre", { tabindex: "0" }, JSON.stringify(answer, null, 2))),
  ];
}

function section(heading, content) {
  return element("section", {}, element("h3", {}, heading), content);
}

function timeline(answer) {
  const timings = answer.timings ?? [];
  const ends = timings.map((each) => Number(each.startMicroseconds ?? 0) + Number(each.microseconds ?? 0));
  const total = Math.max(Number(answer.totalMicroseconds ?? 0), ...ends, 1);
  const rows = timings.map((each) => [
    plainName(each.stage, "STAGE_"), track(each, total), milliseconds(each.microseconds ?? 0),
  ]);
  rows.push(["whole", "", milliseconds(answer.totalMicroseconds ?? 0)]);
  const what = "Darker: Triton's part, or the slowest shard's own.";
  return element("div", {}, table("timeline", [{ name: "stage" }, { name: "" }, { name: "time", number: true }], rows),
  element("p", { class: "note" }, what));
}

function track(timing, total) {
  const start = Number(timing.startMicroseconds ?? 0) / total;
  const length = Number(timing.microseconds ?? 0) / total;
  const inner = Number(timing.innerMicroseconds ?? 0) / total;
  const made = element("div", { class: "track", "aria-hidden": "true" }, part("", length, start));
  if (inner) made.append(part("inner", Math.min(inner, length), start));
  return made;
}

function used(answer) {
  const fusion = answer.fusion ?? {};
  const rerank = answer.rerank ?? {};
  const weights = ["dense", "lexical", "sparse"].map((leg) => `${leg} ${fusion[`${leg}Weight`] ?? 0}`);
  const depth = rerank.enabled ? `${rerank.depth ?? 0} read, share ${rerank.weight ?? 0}` : "off";
  return [
    ["fusion", `${plainName(fusion.method, "FUSION_METHOD_")}, k ${fusion.k ?? "-"}`],
    ["weights", weights.join(", ")],
    ["reranking", depth],
    ["window", `${answer.window ?? 0} per leg, ${whole(answer.candidateCount)} candidates`],
    ["coverage", `${Math.round(100 * (answer.coverage ?? 0))} %`],
    ["encoder", model(answer.encoder)],
    ["reranker", model(answer.reranker)],
    ["sparse encoder", model(answer.sparseEncoder)],
    ["understood", answer.understood?.text],
    ["required", answer.understood?.required?.join(", ")],
    ["excluded", answer.understood?.excluded?.join(", ")],
  ].filter(([, value]) => value);
}

function filterPlan(plan) {
  const legs = ["dense", "lexical", "sparse"].filter((leg) => plan[leg]).map((leg) => {
    const { strategies = [], matchingCount, documentCount, shortfall } = plan[leg];
    const how = strategies.map((each) => plainName(each, "FILTER_STRATEGY_")).join(", ");
    const text = `${whole(matchingCount)} of ${whole(documentCount)} match; ${how}`;
    return [leg, shortfall ? `${text}; ${shortfall}` : text];
  });
  return [["as understood", plan.expression ?? ""], ...legs];
}

function shards(answer) {
  const rows = (answer.shards ?? []).map((each) => [
    String(each.shard ?? 0), each.complete ? "all legs" : "not all legs",
    whole(each.generation), whole(each.sequence),
  ]);
  const headings = [{ name: "shard" }, { name: "answered" }, { name: "generation", number: true },
    { name: "covers change", number: true }];
  return table("", headings, rows);
}

function model(version) {
  return version?.model ? `${version.model}:${version.version ?? ""}` : "";
}

function pairs(rows) {
  return element("table", {}, element("tbody", {}, ...rows.map(([name, value]) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value)))));
}
