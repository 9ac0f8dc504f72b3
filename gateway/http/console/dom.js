// Elements from plain data. Text is always text: nothing here can become markup.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export function byId(id) {
  return document.getElementById(id);
}

// A filled part of a bar; sizes are set by script, as the page's policy allows no style attributes.
export function part(className, widthShare, leftShare) {
  const made = element("span", { class: className });
  made.style.width = `${100 * widthShare}%`;
  if (leftShare !== undefined) made.style.left = `${100 * leftShare}%`;
  return made;
}

export function table(className, headings, rows) {
  const cell = (name, value, column) =>
    element(name, { class: headings[column]?.number ? "number" : undefined }, value);
  return element("table", { class: className },
    element("thead", {}, element("tr", {},
      ...headings.map((heading, column) => cell("th", heading.name, column)))),
    element("tbody", {}, ...rows.map((row) =>
      element("tr", {}, ...row.map((value, column) => cell("td", value, column))))));
}

export function tell(place, text) {
  place.textContent = text;
  place.hidden = !text;
}

export const milliseconds = (microseconds) => `${(Number(microseconds) / 1000).toFixed(1)} ms`;
export const plainName = (name, prefix) => (name ?? "").replace(prefix, "").toLowerCase().replaceAll("_", " ");
export const whole = (number) => Number(number ?? 0).toLocaleString("en");
