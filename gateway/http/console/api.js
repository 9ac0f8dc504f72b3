// The HTTP doors as this page asks them.

let key = "";

export function useKey(value) {
  key = value.trim();
}

export class Refusal extends Error {
  constructor(status, error) {
    const reason = error.details?.find((each) => each.reason)?.reason ?? error.status ?? "";
    super(error.message || `the gateway answered with status ${status}`);
    this.status = status;
    this.reason = reason;
  }
}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.authorization = `Bearer ${key}`;
  const response = await fetch(path, { ...options, headers });
  const body = await response.json().catch(() => ({}));
  if (!response.ok && path !== "/health") throw new Refusal(response.status, body.error ?? {});
  return body;
}

export function search(collection, request, deadlineMilliseconds, signal) {
  const headers = { "content-type": "application/json" };
  if (deadlineMilliseconds) headers["trireme-timeout-ms"] = String(deadlineMilliseconds);
  return ask(`/v1/collections/${encodeURIComponent(collection)}/search`, {
    method: "POST", headers, signal, body: JSON.stringify(request),
  });
}

export async function collections() {
  const found = [];
  let token = "";
  do {
    const page = await ask(`/v1/collections?pageSize=1000&pageToken=${encodeURIComponent(token)}`);
    found.push(...(page.collections ?? []));
    token = page.nextPageToken ?? "";
  } while (token);
  return found;
}

export async function health() {
  return (await ask("/health")).status ?? "UNKNOWN";
}
