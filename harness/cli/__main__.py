"""`harness`, and `python -m harness.cli`."""

import sys


def main() -> int:
    """Run the command line; return the exit code. Ctrl-C may come while it is imported, too."""
    try:
        from harness.cli import main as cli
    except KeyboardInterrupt:
        print("interrupted; type the same again", file=sys.stderr)
        return 130
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
