"""The page: sections of texts, tables and figures flow in; one self-contained HTML text, no request to anywhere, flows out."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import rc_context
from matplotlib.figure import Figure

INCH = 96  # CSS pixels
LEGIBLE = 0.6  # of its natural width; where a screen is narrower, the figure scrolls in its box
DOTS = 150  # an inch, of figures drawn as pixels


class Text(NamedTuple):
    """A paragraph; tone "" or "note"."""

    words: str
    tone: str = ""
    kind: str = "text"


class Lines(NamedTuple):
    """A list of sentences."""

    items: Sequence[str]
    kind: str = "lines"


class Table(NamedTuple):
    """Rows of cells as they are shown; the first cell heads its row, and two spaces before it put it under the row above.

    folded: opened by a click, and always in print; prose: cells are words, not numbers.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    folded: bool = False
    prose: bool = False
    kind: str = "table"


class Picture(NamedTuple):
    """A figure as a data URI, what it shows in words, how it was obtained, and its natural and least width in CSS pixels."""

    source: str
    alt: str
    caption: str
    width: int
    least: int
    kind: str = "picture"


class Section(NamedTuple):
    """A heading and what stands under it, top to bottom."""

    title: str
    blocks: Sequence[Text | Lines | Table | Picture]


class Page(NamedTuple):
    """A whole report."""

    title: str
    verdict: str
    banners: Sequence[str]
    sections: Sequence[Section]
    footer: str


def picture(figure: Figure, alt: str, caption: str, pixels: bool = False) -> Picture:
    """A matplotlib Figure for the page.

    Args:
        figure: outside pyplot.
        alt: what it shows, for who does not see it.
        caption: how it was obtained.
        pixels: PNG instead of SVG, for images and clouds of points.
    """
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "brainmt-align"}):  # the same figure is the same text
        if pixels:
            figure.savefig(file, format="png", dpi=DOTS)
        else:
            figure.savefig(file, format="svg", metadata={"Date": None})
    return _embedded(file.getvalue(), "png" if pixels else "svg+xml", alt, caption, figure.get_size_inches()[0] * INCH)


def picture_of_png(content: bytes, alt: str, caption: str, dots: float = DOTS) -> Picture:
    """A PNG file for the page.

    Args:
        content: of the file.
        alt: what it shows.
        caption: how it was obtained.
        dots: an inch.

    Raises:
        ValueError: not a PNG.
    """
    if content[:8] != b"\x89PNG\r\n\x1a\n" or len(content) < 24:
        raise ValueError(
            f"A PNG image was expected, got {len(content)} bytes that are none.\n  where: {alt}\n"
            "  fix: run the recipe again, or take the file away: the report then goes without it."
        )
    return _embedded(content, "png", alt, caption, int.from_bytes(content[16:20], "big") / dots * INCH)


def render(page: Page) -> str:
    """The HTML of a page."""
    loader = PackageLoader("brainmt_align.reporting", package_path=".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("report.html.j2").render(page=page)


def _embedded(content: bytes, kind: str, alt: str, caption: str, width: float) -> Picture:
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return Picture(source, alt, caption, round(width), round(width * LEGIBLE))
