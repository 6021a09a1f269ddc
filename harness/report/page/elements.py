"""HTML as a tree of elements: text is escaped where the tree is written, so that no name can become markup."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeAlias
from xml.etree.ElementTree import Element, tostring

Child: TypeAlias = "Element | str | int | Iterable[Child] | None"


def el(tag: str, *children: Child, **attributes: Any) -> Element:
    """Return an element. `class_` and `for_` stand for the attributes, `data_x` for `data-x`; True is an attribute
    without a value, None and False leave it out.
    """
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None and value is not False:
            made.set(name.rstrip("_").replace("_", "-"), "" if value is True else _clean(str(value)))
    for child in children:
        _append(made, child)
    return made


def _append(parent: Element, child: Child) -> None:
    if child is None:
        return
    if isinstance(child, Element):
        parent.append(child)
    elif isinstance(child, (str, int)):
        text = _clean(str(child))
        last = parent[-1] if len(parent) else None
        if last is None:
            parent.text = (parent.text or "") + text
        else:
            last.tail = (last.tail or "") + text
    else:
        for one in child:
            _append(parent, one)


def _clean(text: str) -> str:
    """Leave out control characters, which HTML forbids."""
    return "".join(c for c in text if c >= " " or c in "\n\t")


def script(source: str, **attributes: Any) -> Element:
    """Return a script; what would end it, or begin a comment, is written otherwise within its strings."""
    return el("script", source.replace("</script", "<\\/script").replace("<!--", "<\\!--"), **attributes)


def data(name: str, value: Any) -> Element:
    """Return a script element that holds JSON: no `<` stands in it, whatever the names are."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return el("script", text, type="application/json", id=name)


def written(root: Element) -> str:
    """Return the document as text."""
    return "<!doctype html>\n" + tostring(root, encoding="unicode", method="html") + "\n"
