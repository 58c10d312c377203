"""Markup from text that may hold anything: what is not markup already is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


class Html(str):
    """Markup, as opposed to text that is still to be escaped."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str | None) -> Html:
    """``<tag …>children</tag>``; of the names of attributes ``_`` becomes ``-``, None is left out.

    A trailing ``_`` keeps a name from being a keyword of Python's (``class_``).
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Html(f"<{tag}{written}>{joined(*children)}</{tag}>")


def joined(*children: str) -> Html:
    """One after the other."""
    return Html("".join(c if isinstance(c, Html) else escape(c) for c in children))


def items(texts: Sequence[str]) -> Html:
    """A list of them, nothing if there are none."""
    return element("ul", *(element("li", text) for text in texts)) if texts else Html()


@dataclass(frozen=True)
class Cell:
    """What a table shows, and the number that it is sorted by (None: by the text, or last).

    ``detail`` stands smaller below it, ``title`` is a longer text for the pointer, ``style``
    the class of a codec's colour.
    """

    text: str
    number: float | None = None
    detail: str | None = None
    title: str | None = None
    style: str | None = None


def number_cell(value: float | None, style: str) -> Cell:
    """The number in ``style``, with a minus sign that is one; None as "n/a"."""
    return Cell(number_text(value, style), value)


def number_text(value: float | None, style: str) -> str:
    """As in `number_cell`."""
    return "n/a" if value is None else style.format(value).replace("-", "−")


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Html:
    """A table below what it is; the page's script makes it sortable. It scrolls by itself."""
    head = element("tr", *(element("th", name, scope="col") for name in header))
    body = []
    for row in rows:
        first, *others = row
        swatch = element("span", class_=f"swatch {first.style}") if first.style else Html()
        cells = [element("th", swatch, first.text, scope="row", title=first.title)]
        cells += [
            element(
                "td",
                cell.text,
                element("small", cell.detail) if cell.detail else Html(),
                data_sort=None if cell.number is None else repr(float(cell.number)),
                title=cell.title,
            )
            for cell in others
        ]
        body.append(element("tr", *cells))
    content = element(
        "table",
        element("thead", head),
        element("tbody", *body),
        class_="sortable",
        aria_label=caption,
    )
    # the region can be scrolled by keyboard, for which it needs the focus and a name
    region = element(
        "div", content, class_="scroll", tabindex="0", role="region", aria_label=caption
    )
    return joined(element("p", caption, class_="note"), region)
