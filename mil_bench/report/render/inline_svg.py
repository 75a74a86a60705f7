"""Matplotlib's SVG files as elements of a page: small, without styles, with the methods marked.

A page can then hide methods, say whose line the pointer is on, and forbid inline styles in its
Content-Security-Policy. Libraries that draw such charts in the browser were not taken: they take
from one to several megabytes, write inline styles, and would draw every figure a second time in
another way than the files that go into a paper.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from mil_bench.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

_LINK = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"#(.+)|url\(#(.+?)\)")
_LONG = 60  # parts of a path
_NUMBER = re.compile(r"-?\d+\.\d+")
_BLANKS = re.compile(r"\s*([A-Za-z])\s*|\s+")
_METHOD = re.compile(r"(method-[0-9a-f]{12})-\d+")


def inline_svg(
    file: bytes, prefix: str, words: str, methods: Mapping[str, tuple[str, tuple[int, ...]]]
) -> str:
    """An SVG file of ours as an ``svg`` element.

    Args:
        file: as ``style.svg`` wrote it.
        prefix: of all ids, so that two figures of a page share none.
        words: what it shows, for readers who do not see it.
        methods: ``style.method_id`` of a method to its name and numbers.
    """
    root = ET.fromstring(file)
    used = {reference for element in root.iter() for reference in _references(element)}
    for parent in root.iter():
        for child in list(parent):
            if _tag(child) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _tag(element)
        element.text, element.tail = (_text(element.text), None)
        _clean(element, prefix, used)
        _mark(element, methods)
    for name in ("version", "width", "height"):
        root.attrib.pop(name, None)
    width, height = root.attrib["viewBox"].split()[2:]
    root.attrib.update(
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": f"{4 / 3 * float(width):.0f}",  # from points to pixels
            "height": f"{4 / 3 * float(height):.0f}",
            "stroke-linejoin": "round",
            "role": "img",
            "aria-label": one_line(words),
        }
    )
    return ET.tostring(root, encoding="unicode")


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _text(text: str | None) -> str | None:
    return text if text and text.strip() else None


def _references(element: ET.Element) -> list[str]:
    """Ids that an element refers to."""
    links = [element.get(_LINK, ""), *element.attrib.values()]
    found = [match for link in links if (match := _REFERENCE.match(link))]
    return [match[1] or match[2] for match in found]


def _clean(element: ET.Element, prefix: str, used: set[str]) -> None:
    """Shorten paths and write styles as attributes; ids that nothing refers to go."""
    for declaration in element.attrib.pop("style", "").split(";"):
        name, _, value = declaration.partition(":")
        if value:
            element.set(name.strip(), value.strip())
    if "d" in element.attrib:
        element.set("d", _path(element.attrib["d"]))
    identity = element.attrib.pop("id", "")
    if identity in used:
        element.set("id", prefix + identity)
    elif _METHOD.fullmatch(identity):
        element.set("data-m", identity)
    link = element.attrib.pop(_LINK, "")
    if link:
        element.set("href", f"#{prefix}{link[1:]}" if link.startswith("#") else link)
    for name, value in element.attrib.items():
        if value.startswith("url(#"):
            element.set(name, f"url(#{prefix}{value[5:]}")


def _path(text: str) -> str:
    """A path in tenths of its unit; a chain of lines as steps, which have fewer digits."""
    tokens = text.split()
    commands = {token for token in tokens if token.isalpha()}
    if not commands <= {"M", "L"} or len(tokens) < _LONG:
        rounded = _NUMBER.sub(lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), text)
        return _BLANKS.sub(lambda blank: blank[1] or " ", rounded).strip()
    parts, last = [], (0, 0)
    for i in range(0, len(tokens), 3):
        # Each point is rounded before the step to it is taken, so that errors do not add up.
        point = round(10 * float(tokens[i + 1])), round(10 * float(tokens[i + 2]))
        if tokens[i] == "M":
            parts.append(f"M{_tenths(point[0])} {_tenths(point[1])}")
        else:
            x, y = (_tenths(now - before) for now, before in zip(point, last, strict=True))
            parts.append(f"l{x}{'' if y.startswith('-') else ' '}{y}")
        last = point
    return "".join(parts)


def _tenths(number: int) -> str:
    return f"{number / 10:g}"


def _mark(element: ET.Element, methods: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Replace the id of a method by its number and its name."""
    found = _METHOD.fullmatch(element.get("data-m", ""))
    if found is None:
        return
    del element.attrib["data-m"]
    if found[1] in methods:
        name, numbers = methods[found[1]]
        element.set("data-m", " ".join(map(str, numbers)))
        title = ET.Element("title")
        title.text = one_line(name)
        element.insert(0, title)
