// Which page is shown, whether the gateway serves, and the caller's key.

import * as api from "./api.js";
import { look, startCluster } from "./cluster.js";
import { byId } from "./dom.js";
import { loadCollections, startSearch } from "./search.js";

const PAGES = ["search", "cluster"];

function route() {
  const wanted = location.hash.slice(1);
  const page = PAGES.includes(wanted) ? wanted : PAGES[0];
  for (const each of PAGES) {
    byId(each).hidden = each !== page;
    const link = byId(`to-${each}`);
    if (each === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (page === "cluster") look();
  else byId("query").focus();
}

async function checkHealth() {
  const pill = byId("health");
  try {
    const serving = (await api.health()) === "SERVING";
    pill.textContent = serving ? "serving" : "not ready";
    pill.className = `pill ${serving ? "good" : "bad"}`;
  } catch {
    pill.textContent = "not answering";
    pill.className = "pill bad";
  }
}

startSearch();
startCluster();
byId("key-form").addEventListener("submit", (event) => event.preventDefault());
byId("key").addEventListener("change", () => {
  api.useKey(byId("key").value);
  loadCollections();
  route();
});
window.addEventListener("hashchange", route);
setInterval(checkHealth, 10_000);
checkHealth();
loadCollections();
route();
