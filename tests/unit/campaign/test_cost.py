"""What a plan costs: by step times that were measured, where they were, and no figure that nobody has measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.campaign import cost
from harness.campaign.config import compose
from harness.campaign.plan import Plan, PlannedTrial, make_plan
from harness.cli import main as cli
from harness.errors import ConfigError
from harness.machine import hardware
from harness.record import run_folder
from harness.record.readings import Calibration, Reading
from harness.record.result import Result, Status
from harness.report import cost_table

RUN = ("suite=mine", "device=cpu", "tensorboard=false")
HERE = {"cpu": "Some CPU", "cores": 2}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "machine", lambda: {**HERE, "python": "3.11.7"})


def planned(*words: str) -> Plan:
    return make_plan(compose([*RUN, *words]), ["good", "diverge"])


def finish(trial: PlannedTrial, steps: int, step_s: float, yardstick_s: float, where: dict[str, object]) -> None:
    """Write the record of a trial that compiled for 4 s and took 6 s beside."""
    spans = {"train": Reading(steps * step_s), "compile": Reading(4.0), "eval": Reading(5.0), "setup": Reading(1.0)}
    with run_folder.hold(run_folder.prepare(trial.root, trial.spec, trial.options)) as folder:
        folder.append("attempt", attempt=1, resume_step=0)
        folder.write_result(
            Result(
                Status.TARGET_REACHED,
                "because",
                trial.spec.id,
                steps=steps,
                ledger=spans,
                train_step_s=step_s,
                calibration=Calibration(yardstick_s, 0.1, {8: 1.0}, 0.0, 5),
                fingerprint=where,
            )
        )


def found(plan: Plan) -> dict[str, cost.Cost]:
    kind = cost.kind_of(plan, RUN)
    return {one.submission: one for one in cost.costs(plan, kind, cost.recorded([Path(plan.run.out)], kind))}


def test_without_records_it_is_the_reference_step_time_and_nothing_else(place: Path) -> None:
    one = found(planned())["good"]
    assert one.step == cost.StepTime(0.1, "reference", "", False)
    assert (one.trials, one.steps, one.most_steps) == (1, 300, 600)  # the baseline's to the target, and the budget
    assert one.parts == {"search": 0.0, "scored": pytest.approx(30.0), "compile": None, "beside": None}


def test_what_was_measured_on_this_kind_of_device_comes_first(place: Path) -> None:
    for trial, (steps, step_s) in zip(planned().trials, ((200, 0.3), (500, 0.7)), strict=True):
        finish(trial, steps, step_s, 0.2, HERE)
    costs = found(planned("seed=1"))
    for name, steps, step_s in (("good", 200, 0.3), ("diverge", 500, 0.7)):
        one = costs[name]
        assert one.step == cost.StepTime(step_s, "program", "Some CPU, 2 core(s)", True, 1)
        assert (one.steps, one.compile_s, one.beside_s) == (steps, 4.0, 6.0)
        assert one.most_s == pytest.approx(600 * 0.2)  # the budget is in steps of the yardstick
    assert found(planned("seed=1", "stop=horizon"))["good"].most_s == pytest.approx(400 * 0.3)  # a horizon in its own


def test_another_program_here_tells_the_yardstick_and_what_is_beside(place: Path) -> None:
    finish(planned().trials[0], 200, 0.3, 0.2, HERE)
    other = found(planned("seed=1"))["diverge"]
    assert other.step == cost.StepTime(0.2, "yardstick", "Some CPU, 2 core(s)", True, 1)
    assert (other.steps, other.compile_s, other.beside_s) == (300, None, 6.0)


def test_trials_on_a_busy_machine_count_where_there_is_no_other(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The yardstick takes 0.2 s in a quiet trial of another program, 0.5 s in a busy one."""
    plans = [planned(f"seed={seed}") for seed in (1, 2, 3)]
    finish(plans[0].trials[1], 200, 0.7, 0.2, HERE)
    finish(plans[0].trials[0], 200, 1.3, 0.5, HERE)
    costs = found(planned())
    assert costs["good"].step == cost.StepTime(1.3, "program", "Some CPU, 2 core(s)", True, 1, busy=1)
    assert costs["diverge"].step == cost.StepTime(0.7, "program", "Some CPU, 2 core(s)", True, 1)
    assert costs["good"].most_s == pytest.approx(600 * 0.2), "the quiet yardstick alone"
    cost_table.print_costs(list(costs.values()), cost.kind_of(planned(), RUN), None)
    out = capsys.readouterr().out
    assert "1 trial on a busy machine: too long" in out and "good on task: from trials on a busy machine alone" in out
    finish(plans[1].trials[0], 200, 0.4, 0.21, HERE)
    finish(plans[2].trials[0], 200, 0.5, 0.24, HERE)
    assert found(planned())["good"].step == cost.StepTime(0.45, "program", "Some CPU, 2 core(s)", True, 2)


@pytest.mark.parametrize("where", [{"cpu": "Some CPU", "cores": 4}, {"cpu": "Other CPU", "cores": 2}, {}])
def test_another_machine_tells_nothing(place: Path, where: dict[str, object]) -> None:
    finish(planned().trials[0], 200, 0.3, 0.2, where)
    assert found(planned("seed=1"))["good"].step == cost.StepTime(0.1, "reference", "", False)


def test_the_step_time_of_a_cpu_tells_nothing_of_a_card(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned()
    gpu = replace(plan, trials=tuple(replace(t, spec=replace(t.spec, device="gpu")) for t in plan.trials))
    kind = cost.kind_of(gpu, ["device=h200"])
    assert kind == cost.Kind("gpu", "h200") and kind.made("NVIDIA H200, AMD EPYC, 16 core(s)")
    assert not kind.made("NVIDIA H100 80GB HBM3, AMD EPYC, 16 core(s)")
    costs = cost.costs(gpu, kind, [])
    for one in costs:
        assert one.step is None and one.parts["scored"] is None and one.most_s is None
    cost_table.print_costs(costs, kind, cost.Price(2.5))
    out = " ".join(capsys.readouterr().out.split())
    assert "--price is not used, since there are no hours to pay" in out
    assert "makes step times known: `harness run diverge good workload=task device=h200 max_steps=200`" in out


def test_a_step_of_one_device_tells_nothing_of_eight(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(planned().trials[0], 200, 0.3, 0.2, HERE)
    spread = planned("devices=8")
    kind = cost.kind_of(spread, RUN)
    costs = cost.costs(spread, kind, cost.recorded([Path("runs")], kind))
    assert [one.step for one in costs] == [None, None]
    cost_table.print_costs(costs, kind, None)
    assert "Some CPU, 2 core(s); a trial takes devices=8" in " ".join(capsys.readouterr().out.split())
    finish(spread.trials[0], 200, 0.3, 0.2, HERE)
    took = cost.recorded([Path("runs")], kind)
    one = next(one for one in cost.costs(planned("devices=8", "seed=1"), kind, took) if one.step.source == "program")
    assert (one.step_s, one.scored_s, one.beside_s) == (0.3, pytest.approx(200 * 0.3), 6.0), "the machine is one"
    cards = replace(one, paid=8)
    assert cards.scored_s == pytest.approx(8 * 200 * 0.3), "each card has its price"


def test_the_command_adds_up_and_names_what_is_unknown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", *RUN, "good", "diverge", "--price", "36EUR", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["cost"]
    assert told["hours"] == pytest.approx(60 / 3600) and told["most_hours"] == pytest.approx(120 / 3600)
    assert (told["money"], told["most_money"], told["currency"]) == (pytest.approx(0.6), pytest.approx(1.2), "EUR")
    assert [row["compile_hours"] for row in told["rows"]] == [None, None]
    assert any(line.startswith("compilation") for line in told["unknown"])
    assert cli.main(["plan", *RUN, "good", "diverge", "--price", "36EUR"]) == 0
    shown = capsys.readouterr().out
    assert "expected: at least 0.0167 device-hours, 0.60 EUR" in shown
    assert "the reference machine, of AdamW's step" in shown and "not known, and not in it: compilation" in shown
    assert "\nso these hours are of steps alone, and the rest comes on top; `harness run --dry-run` " in shown


def test_prices() -> None:
    for text, amount, currency in (("2.50", 2.5, ""), ("2.50EUR", 2.5, "EUR"), ("$2", 2.0, "$"), (".5 €", 0.5, "€")):
        assert cost.price(text) == cost.Price(amount, currency)
    for text in ("", "EUR", "-1", "2,50", "nan", "1e3", "$2EUR"):
        with pytest.raises(ConfigError, match="expected an amount for an hour of a device"):
            cost.price(text)
