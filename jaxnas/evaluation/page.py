"""A comparison as one HTML page: no script, nothing fetched, readable in the dark, in grey and on paper.

Where in the river: on the bank. Knows blocks and charts; no files.
"""

from collections.abc import Sequence
from html import escape

from jaxnas.evaluation.charts import Point, Row, dots, plane
from jaxnas.evaluation.comparison import Comparison
from jaxnas.evaluation.report import SCORE, Block, blocks, title

STYLE = """
:root { color-scheme: light dark; --ink: #1d2125; --quiet: #5b636b; --line: #ccd2d8; --paper: #fff; --band: #f2f4f6 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --quiet: #a4acb4; --line: #454c54; --paper: #16191c; --band: #20252a } }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 68rem;
  margin: 0 auto; padding: 1.5rem }
h1 { font-size: 1.5rem; line-height: 1.25 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .4rem }
p, li { max-width: 46rem } .quiet, figcaption { color: var(--quiet) }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem .3rem; border-bottom: 1px solid var(--line) }
th { color: var(--quiet); font-weight: 600 } td { overflow-wrap: break-word; max-width: 34rem }
td:first-child { min-width: 1.5rem }
.note { border-left: 4px solid var(--ink); background: var(--band); padding: .5rem .9rem; margin: .5rem 0 }
figure { margin: .8rem 0; max-width: 48rem } svg { width: 100%; height: auto; display: block }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink) }
.grid { stroke: var(--line); fill: none } .bar { stroke: var(--ink); stroke-width: 2; fill: none }
.ring { stroke: var(--quiet); stroke-width: 1.5; fill: none } .mean { fill: var(--ink) }
.dash1 { stroke-dasharray: 7 4 } .mark { stroke: var(--quiet); stroke-dasharray: 2 3; fill: none }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 0 1.5rem }
.small text { font-size: 11px } .paper { background: #fff; max-width: none; padding: .5rem }
@media print {
  :root { --ink: #000; --quiet: #444; --line: #bbb; --paper: #fff; --band: #fff }
  body { font-size: 10pt; max-width: none; padding: 0 } tr, figure, .note { break-inside: avoid }
  h2, p { break-after: avoid }
  .wide { overflow: visible } th, td { padding-right: .5rem } }
"""
CAPTION = "Rings are runs, the diamond is their mean, the bar its 95 % interval."
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(found: Comparison) -> str:
    """The page as text; everything that came from a run is escaped."""
    pictures = charts(found)
    body = "\n".join(_block(block, pictures.get(block.title, "")) for block in blocks(found))
    return document(title(found), f"Best mean first. {_said(found)}", body)


def document(name: str, lead: str, body: str) -> str:
    """A page with a title, a sentence below it, and a body that is HTML; all else is escaped."""
    name = escape(name)
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}</title><style>{STYLE}</style>"
    )
    lead = f'<p class="quiet">{escape(lead)}</p>'
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body><h1>{name}</h1>\n{lead}\n{body}\n</body></html>\n'
    )


def charts(found: Comparison) -> dict[str, str]:
    """Pictures by the heading that they stand under."""
    known = [(method, method.accuracy) for method in found.methods if method.accuracy]
    rows = [
        Row(m.name, tuple(100 * r.accuracy for r in m.runs if r.accuracy is not None), a.mean, a.interval)
        for m, a in known
    ]
    sizes = [(m, a, [r.parameters for r in m.runs if r.parameters is not None]) for m, a in known]
    sized = [Point(m.name, sum(of) / len(of) / 1e6, a.mean) for m, a, of in sizes if of]
    scored = [Point(one.method, one.score, one.accuracy) for one in found.scored]
    made = {"Accuracy": dots(rows, f"{SCORE[found.kind]}, %") if rows else ""}
    if len(sized) > 1:
        made["Cost"] = plane(sized, "parameters, millions", "mean accuracy, %")
    if len(scored) > 1:
        made["Scores of supernets and true accuracy"] = plane(scored, "accuracy in the supernet, %", "true accuracy, %")
    return made


def _said(found: Comparison) -> str:
    said = [f"{name}: {found.terms[name]}" for name in ("dataset", "table") if found.terms.get(name)]
    space = found.terms.get("space.name", found.terms.get("space"))
    return "; ".join([*said, f"space: {space}"]) + "."


def _block(block: Block, picture: str) -> str:
    kind = "note" if block.title == "Before you read on" else "quiet"
    text = "".join(f'<p class="{kind}">{escape(one)}</p>' for one in block.text)
    said = f"<figcaption>{CAPTION}</figcaption>" if block.title == "Accuracy" else ""
    figure = f"<figure>{picture}{said}</figure>" if picture else ""
    rows = table(block.header, block.rows) if block.rows else ""
    return f"<section><h2>{escape(block.title)}</h2>{text}{figure}{rows}</section>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text, escaped."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
