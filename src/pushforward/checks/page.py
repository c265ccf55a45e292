"""A report as one page of HTML that needs nothing else: styles and pictures are inside."""

from __future__ import annotations

import base64
import io
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.atomic import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .report import Report

_DPI = 180  # twice what screens of ordinary density show


def write_page(report: Report, path: str | PathLike[str], title: str) -> Path:
    """Writes the page, whole or not at all.

    Raises:
        OSError: it cannot be written.
        ImportError: there is no jinja2 or no matplotlib.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise ImportError('a page needs jinja2: pip install "pushforward[check]"') from None
    from .pictures import pictures

    drawn = {
        name: [{"caption": caption, "width": round(96 * fig.get_figwidth()), "png": _png(fig)} for caption, fig in each]
        for name, each in pictures(report).items()
    }
    environment = Environment(loader=PackageLoader("pushforward", "checks"), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"tone": _tone, "sentence": _sentence, "signs": _signs}
    page = environment.get_template("page.html.jinja").render(report=report, title=title, pictures=drawn)
    with atomic(path) as part:
        part.write_text(page + "\n", encoding="utf-8")
    return Path(path)


def _png(fig: Figure) -> str:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=_DPI, facecolor="white")
    return base64.b64encode(buffer.getvalue()).decode()


def _tone(verdict: str) -> str:
    return {"cannot tell": "unknown"}.get(verdict, verdict)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."


def _signs(text: str) -> str:
    """Text with the signs that a terminal may not have."""
    return text.replace(" +- ", " ± ").replace("chi^2", "χ²")
