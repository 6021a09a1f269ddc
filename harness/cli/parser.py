"""The parser that the commands share, and how an error is told."""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import NoReturn

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


def print_error(error: HarnessError, debug: bool = False, *, kind: str = "error") -> None:
    """Print an error on standard error, after what is printed so far; with `debug` its traceback too."""
    if debug:
        traceback.print_exception(error)
    sys.stdout.flush()
    print(f"{kind}: {error}", file=sys.stderr)


def print_export(name: str) -> None:
    """Tell, beside the output, of a program that is exported because the store lacks it."""
    print(f"exporting {name}", file=sys.stderr, flush=True)
