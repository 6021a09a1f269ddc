"""A page that people link to: trials or AlgoPerf's logs come in; one HTML file, figures or Markdown go out.

`boards.py` makes one JSON-like structure of the scores; the others are views of it. It may import what `report` may.
"""
