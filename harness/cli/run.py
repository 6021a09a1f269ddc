"""`harness run`."""

from __future__ import annotations

import argparse
import functools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.parser import add_json, aside, command_parser, print_error, print_json
from harness.errors import ConfigError, HarnessError

if TYPE_CHECKING:
    from harness.campaign.plan import Plan
    from harness.record.spec import RunSpec

HELP = """\
SUBMISSION is the name of a folder in ./submissions, a path to one, a single file (mine.py, or mine where no folder is
called so), or a function that makes an optimizer (optax.contrib.muon, package.module:function), with hyperparameters
from its signature. With none named, all submissions run that have a trial to finish: so put a folder into
./submissions and type `harness run`. The harness does not rerun finished trials, and goes on with interrupted ones.

examples:
  harness run adamw nadamw                      compare two on the demo suite
  harness run ./my_optimizer workload=lm_grammar
  harness run mine.py                           one file, with DEFAULTS = {"learning_rate": 0.001} in it
  harness run optax.contrib.muon hp.learning_rate=0.02 hp.schedule=linear
  harness run adamw workload=lm_grammar,resnet_digits seed=1
  harness run adamw hp.learning_rate=0.003      another hyperparameter, of every submission in the command
  harness run adamw muon rules=tuned            for results: tuned, then 7 fresh seeds, with intervals
  harness run adamw rules=speedrun steps=600    are 600 steps enough? 8 runs, and a test of their mean
  harness run adamw stop=horizon clock=wall     to the last step; rank by wall time
  harness run adamw max_steps=20 out=/tmp/runs  a smoke test
  harness run muon profile=true                 where its time goes: a trace, and the dearest operations
  harness run muon variant=all                  held-out variants: how its gap to adamw moves on each; not scored
  harness run muon variant=wide,norm            two of them
  harness run rules=tuned max_hours=8           end after 8 hours as at Ctrl-C; the same command goes on
  harness run adamw devices=8                   each trial over 8 devices; sharding=fsdp splits its state too
  harness run --dry-run                         what would run, and how long
  harness run adamw muon rules=tuned --collect  the scores of what is there so far; runs nothing
  harness run adamw muon device=h100 launcher=slurm            as jobs of a cluster, one for each program
  harness run adamw launcher=slurm launcher.partition=long device=cpu device.cpus=4 --follow
  harness run adamw muon launcher=background    the same jobs in a process that outlives the command

A job of a cluster asks for what the device says (device.gres, .cpus, .memory_gb, .constraint). It goes on where it was
when it is preempted or its time is over. `harness status` tells how jobs stand; the same command submits the rest.

Without rules= it is quick: one seed, at the defaults, which is a first look.

keys: suite, rules, device, launcher (files below configs/), workload, variant, seed, out, hp.NAME, max_steps,
max_hours, checkpoint_s, hang_s, retry, tensorboard, profile, devices, sharding, stop, clock, studies, trials, steps,
and fields of the groups, as in rules.budget_factor=2
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("run", "Run submissions on workloads, one trial after another, then show the scores.", HELP)
    made.add_argument("words", nargs="*", metavar="SUBMISSION | key=value", help="see below")
    made.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    made.add_argument("--collect", action="store_true", help="score what is there so far, and stop")
    made.add_argument("--follow", action="store_true", help="of jobs: wait until all have ended, then show the scores")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.campaign import config
    from harness.campaign.launch import submitting
    from harness.campaign.run import within

    names, overrides = config.split(args.words)
    request = config.compose(overrides)
    if args.follow and request.launcher.engine == "local":
        raise ConfigError("--follow is for launcher=slurm and background; launcher=local shows what runs as it is")
    if args.collect:
        from harness.report import collect, outcome

        if args.dry_run:
            raise ConfigError("--collect and --dry-run both stop before anything runs; give one of them")
        if args.json:
            print_json(outcome.as_json(collect.collected(request, names), so_far=True))
        else:
            collect.print_collected(request, names)
        return 0
    submitting.check(request)
    with within(request.max_hours, lambda text: print_error(HarnessError(text), kind="note")), aside(args.json):
        typed = shlex.join(["harness", "run", *args.words])
        code, found = _run(request, names, typed, dry_run=args.dry_run, as_json=args.json, follow=args.follow)
    if args.json:
        print_json(found)
    return code


def _run(
    request: RunSpec, names: list[str], typed: str, *, dry_run: bool, as_json: bool, follow: bool
) -> tuple[int, dict[str, Any]]:
    """Return the exit code, and what `--json` prints."""
    from harness.campaign import plan
    from harness.campaign.run import run_plan
    from harness.machine import children, load
    from harness.report import live, outcome, plan_table, profiles, run_summary, stages
    from harness.report.campaign_ladder import Ladder

    cluster = request.launcher.engine == "slurm"
    elsewhere = cluster or (dry_run and request.device.platform != "auto")  # on a device that need not be here
    with stages.shown("exporting ") as say:
        planned = plan.make_plan(request, names, elsewhere=elsewhere, on_export=say)
    if told := children.ambient():
        text = f"{', '.join(told)}: not handed to trials; the harness sets jax's options itself"
        print_error(HarnessError(text), kind="note")
    plan_table.print_plan(planned, everything=not names)
    for note in planned.notes:
        print_error(HarnessError(note), kind="note")
    code = 1 if planned.problems else 0
    obstacles = plan.obstacles(planned, elsewhere=cluster)
    goes_on = planned.runnable or planned.due or dry_run or obstacles or request.launcher.engine != "local"
    for problem in planned.problems if goes_on else ():  # else the summary, which follows at once, tells them
        print_error(problem)
    if dry_run:
        for obstacle in obstacles:
            print_error(obstacle, kind="note")
        return code, plan_table.as_json(planned) | {"obstacles": list(map(str, obstacles))}
    if obstacles:
        raise obstacles[0]
    if request.launcher.engine != "local":
        return _submit(planned, names, typed, code, as_json=as_json, follow=follow)
    timed = request.max_steps is None and (planned.runnable or planned.due)
    if busy := load.warning(load.others()) if timed else None:
        print_error(HarnessError(busy), kind="note")

    def on_problem(problem: HarnessError) -> None:
        nonlocal code
        print_error(problem)
        code = max(code, problem.exit_code)

    ladder = Ladder()
    run_one = functools.partial(live.run_trial, tensorboard=request.tensorboard, ladder=ladder)
    planned = run_plan(
        planned,
        names,
        run_one,
        on_run=live.show_run,
        on_problem=on_problem,
        on_choices=plan_table.print_choices,
        on_trials=ladder.expect,
    )
    complete = run_summary.print_summary(planned, tables=not as_json)
    trials = run_summary.trials_of(planned)
    traced = profiles.print_profiles(trials, on_problem) if request.profile else []
    notes = [*planned.notes, *([busy] if busy else [])]
    found = outcome.as_json(trials, problems=planned.problems, notes=notes) if as_json else {}
    return max(code, 0 if complete else 1), found | {"profiles": traced}


def _submit(
    planned: Plan, names: list[str], typed: str, code: int, *, as_json: bool, follow: bool
) -> tuple[int, dict[str, Any]]:
    """Hand what is left to run to a launcher that outlives the command; return as `_run` does."""
    from harness.campaign import plan
    from harness.campaign.launch import submitting
    from harness.report import job_table, outcome, plan_table, run_summary

    out = Path(planned.run.out).absolute()
    job_table.print_submitted(submitting.submit(planned, typed), planned.run.out)
    if not follow:
        return code, plan_table.as_json(planned) | job_table.as_json(submitting.standings(out))
    job_table.follow(out, on_silent=lambda error: print_error(error, kind="note"))
    planned = plan.make_plan(planned.run, names, elsewhere=planned.run.launcher.engine == "slurm")
    complete = run_summary.print_summary(planned, tables=not as_json)
    found = outcome.as_json(run_summary.trials_of(planned), problems=planned.problems, notes=planned.notes)
    return max(code, 0 if complete else 1), found
