"""The frame of a report: one HTML file with its style sheet inside and nothing outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_STYLE = """
:root { --ink: #1c2430; --soft: #5d6878; --line: #dde2ea; --paper: #fff; --card: #f6f8fb;
  --main: #7d93b8; --best: #1f5fbf; --gain: #2f8a58; --loss: #c0532f; --band: #1f5fbf22; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa6b8; --line: #323b49;
  --paper: #141920; --card: #1c232d; --main: #64789b; --best: #6ea8ff; --gain: #5cc08a;
  --loss: #e98760; --band: #6ea8ff22; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 40px 0 8px; }
p { margin: 6px 0; max-width: 76ch; } .soft, figcaption { color: var(--soft); }
code { font: 13px ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 16px 0; }
dt { color: var(--soft); } dd { margin: 0; }
.wide { overflow-x: auto; margin: 12px 0 20px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { font-weight: 600; color: var(--soft); white-space: nowrap; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td { white-space: nowrap; } td.text { white-space: normal; overflow-wrap: anywhere; }
tr.best td { font-weight: 600; color: var(--best); }
summary { cursor: pointer; color: var(--soft); padding: 8px 0; }
figure { margin: 16px 0; background: var(--card); border-radius: 8px; padding: 16px; }
figure svg { width: 100%; max-width: 860px; height: auto; display: block; margin: 0 auto; }
svg text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: var(--ink); }
svg .tick, svg .axis { fill: var(--soft); } svg .end { text-anchor: end; }
svg .middle { text-anchor: middle; }
.bar, .dot { fill: var(--main); } .bar.best, .dot.best { fill: var(--best); }
.whisker { stroke: var(--ink); } .grid { stroke: var(--line); } .zero { stroke: var(--soft); }
.curve { fill: none; stroke: var(--best); stroke-width: 2; }
.band { fill: var(--band); } .gain { fill: var(--gain); } .loss { fill: var(--loss); }
td.gain { color: var(--gain); } td.loss { color: var(--loss); }
.line { fill: none; stroke-width: 2; } .line.low { stroke: var(--gain); }
.line.middle-line { stroke: var(--main); } .line.high { stroke: var(--loss); }
.line.best { stroke: var(--best); } .dot.low { fill: var(--gain); }
.dot.middle-line { fill: var(--main); } .dot.high { fill: var(--loss); }
.bound { stroke: var(--soft); stroke-dasharray: 4 4; }
.verdict { border-left: 4px solid var(--best); background: var(--card); padding: 12px 16px;
  border-radius: 0 8px 8px 0; margin: 16px 0; }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """A whole HTML document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>\n<h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</main></body></html>\n"
    )


def facts(values: Mapping[str, str]) -> str:
    """A list of names and values."""
    rows = [f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in values.items()]
    return f"<dl>{''.join(rows)}</dl>"


def section(heading: str, *parts: str, note: str = "") -> str:
    """A heading, a note in plain words, and what belongs to it."""
    said = f'<p class="soft">{escape(note)}</p>' if note else ""
    return f"<h2>{escape(heading)}</h2>{said}{''.join(parts)}"


def figure(svg: str, caption: str) -> str:
    """A plot with what it shows."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def folded(summary: str, content: str) -> str:
    """Something that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    kinds: Sequence[str] = (),
    text_columns: frozenset[int] = frozenset(),
) -> str:
    """Rows of text; `kinds` are the rows' classes, `text_columns` are set flush left."""
    names = [_cell("th", head, column in text_columns) for column, head in enumerate(heads)]
    lines = []
    for number, row in enumerate(rows):
        cells = [_cell("td", value, column in text_columns) for column, value in enumerate(row)]
        kind = kinds[number] if kinds else ""
        lines.append(f'<tr class="{kind}">{"".join(cells)}</tr>')
    head = f"<thead><tr>{''.join(names)}</tr></thead>"
    return f'<div class="wide"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'


def _cell(tag: str, value: str, is_text: bool) -> str:
    kind = ' class="text"' if is_text else ""
    return f"<{tag}{kind}>{escape(value)}</{tag}>"
