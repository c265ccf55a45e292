"""A report as one page of HTML that needs nothing else: styles and pictures are inside."""

from __future__ import annotations

import base64
import io
from html import escape as _escape
from os import PathLike
from pathlib import Path

from matplotlib.figure import Figure

from ..io.atomic import atomic
from .pictures import pictures
from .report import Report, Section, about_line

_STYLE = """
:root { --ink: #20252b; --muted: #5b6570; --rule: #dfe3e8; --paper: #fff; --ground: #f4f5f7; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1020px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 22px; margin: 0 0 2px; } h2 { font-size: 17px; margin: 0; }
.about { color: var(--muted); margin: 0 0 18px; font-size: 13.5px; }
section, .verdict { background: var(--paper); border: 1px solid var(--rule); border-radius: 8px;
  padding: 16px 20px; margin: 0 0 16px; }
.verdict { border-left: 6px solid var(--tone); }
.verdict p { margin: 6px 0 0; } .head { display: flex; gap: 12px; align-items: baseline; }
.chip { color: #fff; background: var(--tone); border-radius: 4px; padding: 1px 8px; font-size: 12.5px; font-weight: 600;
  white-space: nowrap; }
.good { --tone: #1f7a3d; } .doubtful { --tone: #b06d00; } .bad { --tone: #b3261e; } .unknown { --tone: #66707b; }
.why { margin: 6px 0 10px; }
nav { display: flex; flex-wrap: wrap; gap: 6px; margin: 12px 0 0; padding: 0; }
nav a { text-decoration: none; color: var(--ink); border: 1px solid var(--rule); border-radius: 14px; font-size: 13px;
  padding: 1px 10px 1px 8px; }
nav a::before { content: ""; display: inline-block; width: 9px; height: 9px; border-radius: 50%;
  margin-right: 6px; background: var(--tone); }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; margin: 0 0 6px; }
td { padding: 4px 14px 4px 0; border-top: 1px solid var(--rule); vertical-align: top; }
td:first-child { white-space: nowrap; } td:nth-child(2) { font-variant-numeric: tabular-nums; white-space: nowrap; }
td:nth-child(3) { color: var(--muted); width: 60%; }
.pictures { display: flex; flex-wrap: wrap; gap: 12px 24px; margin-top: 12px; align-items: flex-start; }
figure { margin: 0; max-width: 100%; } img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--muted); font-size: 12.5px; margin-top: 2px; }
@media (max-width: 640px) {
  table, tbody, tr, td { display: block; white-space: normal !important; width: auto !important; }
  td { border: 0; padding: 0; } tr { border-top: 1px solid var(--rule); padding: 4px 0; display: block; } }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""
_DPI = 180  # twice what screens of ordinary density show


def write_page(report: Report, path: str | PathLike[str], title: str) -> Path:
    """Writes the page, whole or not at all."""
    drawn = pictures(report)
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body><main>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="about">{escape(about_line(report.about))}</p>' if report.about else "",
        f'<div class="verdict {_tone(report.verdict)}"><div class="head">{_chip(report.verdict)}'
        f"<h2>Verdict</h2></div><p>{escape(_sentence(report.summary))}</p>",
        "<nav>"
        + "".join(f'<a class="{_tone(s.verdict)}" href="#{s.name}">{escape(s.title)}</a>' for s in report)
        + "</nav></div>",
    ]
    if drawn["overview"]:
        parts.append(f"<section><h2>Samples and data</h2>{_pictures(drawn['overview'], 'Samples and data')}</section>")
    parts += [_section(s, drawn[s.name]) for s in report]
    parts.append("</main></body></html>\n")
    with atomic(path) as part:
        part.write_text("\n".join(parts), encoding="utf-8")
    return Path(path)


def _section(section: Section, drawn: list[tuple[str, Figure]]) -> str:
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in (*row, "", "")[:3]) + "</tr>" for row in section.table
    )
    return (
        f'<section id="{section.name}" class="{_tone(section.verdict)}"><div class="head">{_chip(section.verdict)}'
        f'<h2>{escape(section.title)}</h2></div><p class="why">{escape(_sentence(section.why))}</p>'
        + (f"<table>{rows}</table>" if rows else "")
        + _pictures(drawn, section.title)
        + "</section>"
    )


def _pictures(drawn: list[tuple[str, Figure]], alt: str) -> str:
    if not drawn:
        return ""
    figures = "".join(
        f'<figure style="width:{round(96 * fig.get_figwidth())}px"><img alt="{escape(alt)}" width="100%" '
        f'src="data:image/png;base64,{_png(fig)}"><figcaption>{escape(caption)}</figcaption></figure>'
        for caption, fig in drawn
    )
    return f'<div class="pictures">{figures}</div>'


def _png(fig: Figure) -> str:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=_DPI, facecolor="white")
    return base64.b64encode(buffer.getvalue()).decode()


def escape(text: str) -> str:
    """Text for HTML, with the signs that a terminal may not have."""
    return _escape(text).replace(" +- ", " ± ").replace("chi^2", "χ²")


def _chip(verdict: str) -> str:
    return f'<span class="chip">{escape(verdict)}</span>'


def _tone(verdict: str) -> str:
    return {"cannot tell": "unknown"}.get(verdict, verdict)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."
