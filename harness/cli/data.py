"""`harness data`."""

from __future__ import annotations

import argparse

from harness.cli.parser import add_json, aside, command_parser, print_json

HELP = """\
list shows what there is and how it stands; get downloads and prepares, once; verify hashes everything anew.

examples:
  harness data list
  harness data get cifar10                      from its public address
  harness data get cifar10 --mirror DIR         from DIR/cifar10/cifar-10-python.tar.gz (or .tar.xz), without a network
  harness data get fineweb --shards 8           the validation shard and the first 8 training shards, 200 MB each
  harness data get imagenet                     indexes the images in DATA/imagenet/{train,val}/CLASS/*.JPEG, once
  harness data get --all --mirror https://example.org/mirror
  harness data verify

A get that is interrupted goes on where it was. Prepared sets lie in DATA: `data` of the cache folder
(~/.cache/training-harness), or in the folder that the environment variable HARNESS_DATA names.
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("data", "Get the data sets that workloads need, and check them.", HELP)
    made.add_argument("action", nargs="?", default="list", metavar="list | get | verify", help="see below")
    made.add_argument("names", nargs="*", metavar="NAME", help="data sets (list and verify: default all)")
    made.add_argument("--all", action="store_true", help="get all but sets of shards and of images")
    made.add_argument("--mirror", metavar="DIR|URL", help="get from a folder or an address with the files' layout")
    made.add_argument("--shards", type=int, metavar="N", help="get so many training shards of a set of shards")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.report import datasets

    with aside(args.json):
        done = datasets.run(args.action, args.names, everything=args.all, mirror=args.mirror, shards=args.shards)
    if args.json:
        print_json(datasets.as_json(done))
    elif args.action == "list":
        datasets.print_list(done)
    return datasets.exit_code(done)
