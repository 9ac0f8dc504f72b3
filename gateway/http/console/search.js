// The search page: asks, shows the answer, and turns its pages.

import * as api from "./api.js";
import { byId, element, milliseconds, plainName, tell, whole } from "./dom.js";
import { hitItem, offerWhole, SOURCES } from "./hits.js";
import { insight } from "./insight.js";
import { deadlineMilliseconds, fitCollection, searchRequest, watchSettings } from "./settings.js";

let known = [];
let asking = null;
let shown = null;

export function startSearch() {
  watchSettings();
  byId("legend").append(...SOURCES.flatMap((source) =>
    [element("span", { class: `key ${source}` }), source]));
  byId("form").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  byId("more").addEventListener("click", () => more());
  byId("collection").addEventListener("change", () => fit());
}

export async function loadCollections() {
  try {
    known = await api.collections();
    const before = byId("collection").value;
    byId("collection").replaceChildren(...known.flatMap((each) => [each.name, ...(each.aliases ?? [])])
      .map((name) => element("option", {}, name)));
    if (before) byId("collection").value = before;
    if (byId("collection").selectedIndex < 0) byId("collection").selectedIndex = 0;
    fit();
    tell(byId("message"), known.length ? "" : "There are no collections that you may search yet.");
  } catch (error) {
    refuse(error);
  }
}

function fit() {
  const name = byId("collection").value;
  fitCollection(known.find((each) => each.name === name || each.aliases?.includes(name)));
}

async function ask() {
  asking?.abort();
  asking = new AbortController();
  shown = { collection: byId("collection").value, request: searchRequest(), best: 0, count: 0, token: "" };
  byId("hits").replaceChildren();
  byId("degraded").replaceChildren();
  byId("summary").textContent = "searching…";
  byId("more").hidden = true;
  byId("insight").hidden = true;
  byId("legend").hidden = true;
  tell(byId("message"), "");
  await page(asking.signal);
}

async function more() {
  byId("more").disabled = true;
  await page(asking.signal);
  byId("more").disabled = false;
}

async function page(signal) {
  const walk = shown;
  const request = walk.token ? { ...walk.request, pageToken: walk.token } : walk.request;
  try {
    show(walk, await api.search(walk.collection, request, deadlineMilliseconds(), signal));
  } catch (error) {
    if (error.name !== "AbortError") refuse(error);
  }
}

function show(walk, answer) {
  const hits = answer.hits ?? [];
  walk.best ||= hits[0]?.score ?? 0;
  byId("hits").append(...hits.map((hit, index) => hitItem(hit, walk.count + index + 1, walk.best)));
  byId("hits").querySelectorAll(".passage.long").forEach(offerWhole);
  walk.count += hits.length;
  walk.token = answer.nextPageToken ?? "";
  byId("more").hidden = !walk.token;
  byId("legend").hidden = !walk.count;
  byId("summary").textContent = walk.count
    ? `${whole(walk.count)} of ${whole(answer.candidateCount)} candidates in ${milliseconds(answer.totalMicroseconds)}`
    : `Nothing was found, in ${milliseconds(answer.totalMicroseconds)}.`;
  byId("degraded").append(...(answer.degraded ?? []).map(shortfall));
  byId("insight").replaceChildren(...insight(answer));
  byId("insight").hidden = false;
}

function shortfall({ stage, reason, message, shards = [] }) {
  const where = shards.length ? ` (shard ${shards.join(", ")})` : "";
  const name = plainName(stage, "STAGE_");
  const code = (reason ?? "").replace("ERROR_REASON_", "");
  return element("li", {}, `Degraded at ${name}${where}: ${message ?? ""} [${code}]`);
}

function refuse(error) {
  const hint = error.status === 401 ? " Enter an access key above." : "";
  tell(byId("message"), `${error.message}${error.reason ? ` [${error.reason}]` : ""}${hint}`);
  byId("summary").textContent = "";
}
