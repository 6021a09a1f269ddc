"""The parser that the commands share, and how an error is told."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

from harness.errors import ConfigError, HarnessError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")


def command_parser(name: str, description: str, examples: str = "") -> argparse.ArgumentParser:
    """Return a parser for `harness NAME`; a slip raises ConfigError."""
    return _Parser(
        prog=f"harness {name}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_json(made: argparse.ArgumentParser) -> None:
    """Give a command its `--json`."""
    made.add_argument("--json", action="store_true", help="print one JSON object; progress goes to standard error")


def aside(as_json: bool) -> contextlib.AbstractContextManager[object]:
    """Within the block, what is printed for people goes to standard error where standard output is to hold JSON."""
    return contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()


def print_json(data: Mapping[str, Any]) -> None:
    """Print one JSON object on a line; paths become text."""
    print(json.dumps(data, allow_nan=False, default=str))


def print_error(error: HarnessError, debug: bool = False, *, kind: str = "error") -> None:
    """Print an error on standard error, after what is printed so far; with `debug` its traceback too."""
    if debug:
        traceback.print_exception(error)
    sys.stdout.flush()
    print(f"{kind}: {error}", file=sys.stderr)
