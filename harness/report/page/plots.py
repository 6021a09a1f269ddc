"""The plots, as Vega-Lite: the page draws them in the browser, `--figures` on paper, from the same specifications.

A specification holds no data: it names data sets ("seeds", "medians", ...) whose rows the page fills in, and whose
fields have fixed short names, so that no name of a submission is ever read as an expression. Texts that start with `@`
(axis titles) are filled in as well. Colours are CSS variables there, so that a dark screen and print have their own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

Spec = dict[str, Any]
Look = tuple[int, int, int]
"""Places of a submission's colour, dash and shape among those below."""
Looks = Mapping[str, Look]
"""Of each submission, in the order of ranks."""

# Okabe and Ito's colours for all kinds of colour vision, darkened where they are too pale on white; see also page.css.
LIGHT = ("#0072b2", "#d55e00", "#00805c", "#b3478f", "#9a6700", "#2b8ac6", "#5b5b5b", "#7a3fc0")
DASHES: tuple[list[int], ...] = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [4, 2, 1, 2, 1, 2])
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
SPAN_COLOURS = ("#0072b2", "#56b4e9", "#e69f00", "#d55e00", "#009e73", "#cc79a7", "#8a8a8a")
SPAN_GROUPS = {
    "training": ("train",),
    "evaluation": ("eval", "eval_variables"),
    "compilation": ("compile",),
    "yardstick": ("yardstick",),
    "set-up": ("setup", "control", "warmup", "init"),
    "checkpoints": ("checkpoint",),
    "other": ("other",),
}
"""How the spans of a ledger are put together, so that colours can be told apart."""

DIVERGING = ("#b35806", "#f1a340", "#fee0b6", "#f7f7f7", "#d8daeb", "#998ec3", "#542788")

_GRID_ZOOM = {
    "name": "grid",
    "select": {
        "type": "interval",
        "zoom": "wheel![event.shiftKey || event.ctrlKey || event.metaKey]",
    },
    "bind": "scales",
}
_TICKS = {"tickCount": {"expr": "ceil(width / 90)"}}
_SHOWN = {"filter": "indexof(shown, datum.s) >= 0"}


def config(*, page: bool) -> Spec:
    """Return the look of all plots: on a page text and lines take the colours of the style sheet."""
    ink, faint, line = ("currentColor", "var(--grid)", "var(--muted)") if page else ("#1b1f24", "#e3e6ea", "#59636e")
    font = "system-ui, -apple-system, 'Segoe UI', sans-serif" if page else "sans-serif"
    return {
        "background": None if page else "white",
        "font": font,
        "view": {"stroke": None},
        "axis": {
            "labelColor": ink, "titleColor": ink, "gridColor": faint, "domainColor": line, "tickColor": line,
            "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 8,
        },
        "header": {"labelColor": ink, "titleColor": ink},
        "legend": {"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "titleFontSize": 12},
        "text": {"color": ink},
        "rule": {"color": ink},
    }  # fmt: skip


def look(place: int) -> Look:
    """Return how the submission at this place is drawn; 40 looks are all different."""
    return place % len(LIGHT), (place // len(LIGHT) + place) % len(DASHES), place % len(SHAPES)


def _styles(looks: Looks, *, page: bool) -> Spec:
    """Return the encoding of a submission by colour and dash; a page has a legend of its own."""
    legend = {"title": None, "symbolType": "stroke", "symbolSize": 400, "symbolOpacity": 1, "labelLimit": 320}
    told = {"legend": None if page else legend}
    colours = [f"var(--c{colour})" if page else LIGHT[colour] for colour, _, _ in looks.values()]
    dashes = [DASHES[dash] for _, dash, _ in looks.values()]
    return {
        "color": {"field": "s", "type": "nominal", **told, "scale": {"domain": list(looks), "range": colours}},
        "strokeDash": {"field": "s", "type": "nominal", **told, "scale": {"domain": list(looks), "range": dashes}},
    }


def _shape(looks: Looks) -> Spec:
    scale = {"domain": list(looks), "range": [SHAPES[shape] for _, _, shape in looks.values()]}
    return {"field": "s", "type": "nominal", "legend": None, "scale": scale}


def _frame(names: Collection[str], height: int, *, page: bool) -> Spec:
    size: Spec = {"width": "container", "autosize": {"type": "fit", "contains": "padding"}} if page else {"width": 480}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        **size,
        "height": height,
        "config": config(page=page),
        "params": [{"name": "shown", "value": list(names)}],
    }


def curves(looks: Looks, *, page: bool) -> Spec:
    """Return seeds faint, medians bold, the target dashed, crossings as markers. Data: seeds, medians, target, hits."""
    styled = _styles(looks, page=page)
    colour = {"color": styled["color"]}
    x = {"field": "x", "type": "quantitative", "title": "@x", "scale": {"zero": True, "nice": False}, "axis": _TICKS}
    y = {"field": "y", "type": "quantitative", "title": "@y", "scale": {"zero": False, "domain": "@domain"}}
    both = {"x": x, "y": y}
    layers: list[Spec] = [
        {
            "data": {"name": "seeds"}, "transform": [_SHOWN], "params": [_GRID_ZOOM],
            "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.3, "clip": True, "aria": False},
            "encoding": {**both, **styled, "detail": {"field": "r"}},
        },
        {
            "data": {"name": "target"},
            "mark": {"type": "rule", "strokeDash": [5, 4], "strokeWidth": 1.5, "clip": True, "aria": False},
            "encoding": {"y": y},
        },
        {
            "data": {"name": "medians"}, "transform": [_SHOWN],
            "mark": {"type": "line", "strokeWidth": 2.6, "clip": True},
            "encoding": {**both, **styled},
        },
        {
            "data": {"name": "hits"}, "transform": [_SHOWN],
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0.95, "clip": True},
            "encoding": {**both, **colour, "shape": _shape(looks)},
        },
    ]  # fmt: skip
    layers += [_focus(both)] if page else []
    return {**_frame(looks, 300, page=page), "layer": layers, "resolve": {"legend": {"shape": "independent"}}}


def ladder(looks: Looks, *, page: bool) -> Spec:
    """Return speed-ups against amounts of data, with intervals. Data: rungs (x, y, low, high: what is seen of the
    interval, e: extrapolated).
    """
    styled = _styles(looks, page=page)
    x = {"field": "x", "type": "quantitative", "title": "@x", "axis": {"format": ".4~g"},
         "scale": {"type": "log", "base": 2, "nice": False, "padding": 24}}  # fmt: skip
    y = {"field": "y", "type": "quantitative", "title": "@y", "scale": {"type": "log", "base": 2, "domain": "@domain"},
         "axis": {"format": ".3~g"}}  # fmt: skip
    both = {"x": x, "y": y}
    held = {"data": {"name": "rungs"}, "transform": [_SHOWN]}
    layers: list[Spec] = [
        {
            "data": {"values": [{"y": 1}]},
            "mark": {"type": "rule", "strokeDash": [5, 4], "strokeWidth": 1.5, "aria": False},
            "encoding": {"y": y},
        },
        {
            **held,
            "mark": {"type": "rule", "strokeWidth": 1.4, "opacity": 0.7, "clip": True, "aria": False},
            "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": styled["color"]},
        },
        {
            **held,
            "mark": {"type": "line", "strokeWidth": 2.2, "clip": True},
            "encoding": {**both, **styled},
        },
        {
            **held,
            "mark": {"type": "point", "filled": False, "size": 70, "strokeWidth": 1.8, "opacity": 1, "clip": True},
            "encoding": {
                **both, "color": styled["color"], "shape": _shape(looks), "fill": styled["color"],
                "fillOpacity": {"condition": {"test": "datum.e", "value": 0}, "value": 1},
            },
        },
    ]  # fmt: skip
    layers += [_focus(both)] if page else []
    return {**_frame(looks, 280, page=page), "layer": layers, "resolve": {"legend": {"shape": "independent"}}}


def profiles(looks: Looks, *, page: bool) -> Spec:
    """Return the performance profiles. Data: profile (t: times the best; v: share of workloads)."""
    x = {"field": "x", "type": "quantitative", "title": "time to target over the best (τ)",
         "scale": {"domain": [1, 4], "nice": False}, "axis": _TICKS}  # fmt: skip
    y = {"field": "y", "type": "quantitative", "title": "share of workloads within τ", "scale": {"domain": [0, 1.02]},
         "axis": {"format": "%", "values": [0, 0.25, 0.5, 0.75, 1]}}  # fmt: skip
    both = {"x": x, "y": y}
    line = {
        "data": {"name": "profile"}, "transform": [_SHOWN], "params": [_GRID_ZOOM],
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2.2, "clip": True},
        "encoding": {**both, **_styles(looks, page=page)},
    }  # fmt: skip
    return {**_frame(looks, 320, page=page), "layer": [line, *([_focus(both)] if page else [])]}


def spent(looks: Looks, *, page: bool) -> Spec:
    """Return where the wall time of a trial went. Data: spent (s, k: what for, n: its place, v: seconds)."""
    groups = list(SPAN_GROUPS)
    bar = {
        "data": {"name": "spent"}, "transform": [_SHOWN],
        "mark": {"type": "bar", "stroke": "var(--surface)" if page else "white", "strokeWidth": 1},
        "encoding": {
            "y": {"field": "s", "type": "nominal", "title": None, "sort": list(looks), "axis": {"labelLimit": 150}},
            "x": {"field": "v", "type": "quantitative", "title": "wall seconds of a trial, mean", "stack": "zero",
                  "axis": _TICKS},
            "order": {"field": "n", "type": "quantitative"},
            "color": {"field": "k", "type": "nominal", "title": None,
                      "legend": {"orient": "bottom", "columns": {"expr": "max(2, floor(width / 110))"},
                                 "symbolType": "square"},
                      "scale": {"domain": groups, "range": list(SPAN_COLOURS)}},
            "tooltip": [{"field": "s"}, {"field": "k"}, {"field": "v", "format": ".4~g"}],
        },
    }  # fmt: skip
    return {**_frame(looks, max(150, 26 * len(looks) + 90), page=page), "layer": [bar]}


def pairs(looks: Looks, *, page: bool) -> Spec:
    """Return the heat map of pairs: how many times as fast the row is as the column. Data: pairs (a, b, v, t, sep)."""
    x = {"field": "b", "type": "nominal", "sort": list(looks), "title": "than",
         "axis": {"labelAngle": -40, "orient": "top", "labelLimit": 130}}  # fmt: skip
    y = {"field": "a", "type": "nominal", "sort": list(looks), "title": None, "axis": {"labelLimit": 130}}
    keep = {"filter": "indexof(shown, datum.a) >= 0 && indexof(shown, datum.b) >= 0"}
    rect = {
        "data": {"name": "pairs"}, "transform": [keep],
        "mark": {"type": "rect", "strokeWidth": 2},
        "encoding": {
            "x": x, "y": y,
            "color": {"field": "v", "type": "quantitative", "legend": None,
                      "scale": {"type": "log", "domain": [0.25, 0.5, 0.8, 1, 1.25, 2, 4], "range": list(DIVERGING),
                                "clamp": True}},
            "opacity": {"condition": {"test": "datum.sep", "value": 1}, "value": 0.35},
            "stroke": {"value": "var(--surface)" if page else "white"},
            "tooltip": [{"field": "tip", "title": "pair"}],
        },
    }  # fmt: skip
    size = 11 if len(looks) <= 12 else 9
    text = {
        "data": {"name": "pairs"}, "transform": [keep],
        "mark": {"type": "text", "fontSize": size},
        "encoding": {"x": x, "y": y, "text": {"field": "t"},
                     "color": {"condition": [{"test": "datum.sep && abs(log(datum.v)) > 1.1", "value": "white"},
                                             {"test": "datum.sep", "value": "#1b1f24"}],
                               "value": "currentColor" if page else "#1b1f24"}},
    }  # fmt: skip
    room = {"left": 5, "right": 60, "top": 5, "bottom": 5}  # for the last of the slanted names
    return {**_frame(looks, 34 * len(looks) + 110, page=page), "padding": room, "layer": [rect, text]}


def points(*, log: bool, page: bool) -> Spec:
    """Return one hyperparameter against the result of each point. Data: points (x, y, c: chosen, m: missed, tip)."""
    mark = {
        "data": {"name": "points"},
        "mark": {"type": "point", "size": 90, "strokeWidth": 2, "filled": False},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "title": "@x", "axis": {"tickCount": 4},
                  "scale": {"type": "log" if log else "linear", "zero": False, "nice": False, "padding": 12}},
            "y": {"field": "y", "type": "quantitative", "title": "@y",
                  "scale": {"zero": False, "nice": False, "padding": 12}},
            "shape": {"field": "m", "type": "nominal", "legend": None,
                      "scale": {"domain": ["reached", "missed"], "range": ["circle", "cross"]}},
            "color": {"condition": {"test": "datum.c", "value": "var(--c1)" if page else LIGHT[1]},
                      "value": "var(--c0)" if page else LIGHT[0]},
            "tooltip": [{"field": "tip", "title": "point"}],
        },
    }  # fmt: skip
    return {**_frame([], 200, page=page), "layer": [mark]}


def parallel(*, page: bool) -> Spec:
    """Return parallel coordinates: an axis for each hyperparameter and the result, a line for each point.

    Data: lines (k: axis, n: its place, v: from 0 to 1, p: point, r: its result from 0 to 1, c: chosen, tip), ends
    (k, v, t: the number at an end of an axis).
    """
    x = {"field": "k", "type": "nominal", "sort": {"field": "n"}, "title": None, "scale": {"padding": 0.25},
         "axis": {"labelAngle": 0, "grid": True, "domain": False, "ticks": False,
                  "labelLimit": {"expr": "max(30, width / length(domain('x')) - 8)"}}}  # fmt: skip
    y = {"field": "v", "type": "quantitative", "axis": None, "scale": {"domain": [-0.12, 1.12]}}
    lines = {
        "data": {"name": "lines"},
        "mark": {"type": "line", "point": {"size": 36}, "opacity": 0.85},
        "encoding": {
            "x": x, "y": y, "detail": {"field": "p"},
            "color": {"field": "r", "type": "quantitative", "legend": None,
                      "scale": {"range": ["#5f86ad", "#9a9a9a", "#d9660a"], "domain": [0, 0.5, 1]}},
            "strokeWidth": {"condition": {"test": "datum.c", "value": 4}, "value": 1.6},
            "tooltip": [{"field": "tip", "title": "point"}],
        },
    }  # fmt: skip
    ends = {
        "data": {"name": "ends"},
        "mark": {"type": "text", "fontSize": 11, "baseline": "middle"},
        "encoding": {"x": x, "y": y, "text": {"field": "t"}},
    }
    return {**_frame([], 280, page=page), "layer": [lines, ends]}


def _focus(both: Spec) -> Spec:
    return {
        "data": {"name": "focus"},
        "mark": {"type": "point", "size": 150, "strokeWidth": 2.5, "filled": False, "clip": True,
                 "color": "currentColor"},
        "encoding": both,
    }  # fmt: skip
