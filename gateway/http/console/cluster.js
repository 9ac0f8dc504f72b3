// The cluster page: every collection and its shards, how far indexing lags, what stands still.

import * as api from "./api.js";
import { byId, element, plainName, table, tell, whole } from "./dom.js";

const EVERY_MILLISECONDS = 5000;
const HEADINGS = [
  { name: "shard" }, { name: "generation", number: true }, { name: "changes", number: true },
  { name: "lag", number: true }, { name: "age", number: true }, { name: "documents/s", number: true },
  { name: "set aside", number: true }, { name: "recall", number: true }, { name: "vector segments" },
];

export function startCluster() {
  byId("refresh").addEventListener("click", () => look());
  setInterval(() => {
    if (!byId("cluster").hidden && byId("follow").checked && !document.hidden) look();
  }, EVERY_MILLISECONDS);
}

export async function look() {
  try {
    const collections = await api.collections();
    byId("collections").replaceChildren(...collections.map(card));
    byId("cluster-summary").textContent = summary(collections);
    tell(byId("cluster-message"), "");
  } catch (error) {
    tell(byId("cluster-message"), `${error.message}${error.reason ? ` [${error.reason}]` : ""}`);
  }
}

function summary(collections) {
  if (!collections.length) return "There are no collections yet.";
  const documents = sum(collections, (each) => each.documentCount);
  const lag = sum(collections.flatMap((each) => each.shards ?? []), (each) => each.lagChanges);
  const behind = lag ? `${whole(lag)} changes are not published yet` : "everything is published";
  return `${whole(collections.length)} collections, ${whole(documents)} documents; ${behind}.`;
}

function card(collection) {
  const shards = collection.shards ?? [];
  const notes = shards.filter((each) => each.stalledReason).map((each) =>
    element("p", { class: "stalled" }, `shard ${each.shard ?? 0} stands still: ${each.stalledReason}`));
  return element("article", { class: "collection" },
    element("header", {}, element("h3", {}, collection.name),
      element("span", { class: "quiet" }, description(collection))),
    ...notes,
    element("div", { class: "scroll" }, table("", HEADINGS, shards.map(row))));
}

function description(collection) {
  const { encoder = {}, sparseEncoder, aliases = [], otherIndex } = collection;
  const model = `${encoder.model}:${encoder.version}, ${collection.dimensions} dimensions, ${collection.similarity}`;
  return [
    `${whole(collection.documentCount)} documents`, model,
    sparseEncoder?.model ? `sparse ${sparseEncoder.model}:${sparseEncoder.version}` : "",
    aliases.length ? `also ${aliases.join(", ")}` : "",
    otherIndex ? `migration: ${otherIndex.name} beside` : "",
  ].filter(Boolean).join(" · ");
}

function row(shard) {
  const segments = (shard.vectorSegments ?? []).map((each) =>
    `${each.count} ${plainName(each.kind, "VECTOR_INDEX_KIND_")}`);
  return [
    String(shard.shard ?? 0), whole(shard.generation), whole(shard.headSequence),
    whole(shard.lagChanges), `${Number(shard.lagSeconds ?? 0).toFixed(1)} s`,
    Number(shard.documentsPerSecond ?? 0).toFixed(1), whole(shard.quarantinedCount),
    segments.length ? Number(shard.vectorRecall ?? 0).toFixed(3) : "-", segments.join(", ") || "none",
  ];
}

function sum(items, value) {
  return items.reduce((total, item) => total + Number(value(item) ?? 0), 0);
}
