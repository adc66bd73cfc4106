"""A made-up experiment: a record with every shared part, a report with figures; `experiments.questions` may know it."""

import dataclasses
import sys
import types

import matplotlib

from experiments import questions
from experiments.harness.data_sets import file_record
from experiments.harness.question import Question
from experiments.harness.result_files import write_json, write_report
from experiments.harness.stages import read_stage
from experiments.reporting import schema
from experiments.reporting.figures import gap_figure, loss_figure
from experiments.reporting.render import Report
from mixmin_jax.stats.comparison import Summary, summary


@dataclasses.dataclass(frozen=True)
class Arm:
    loss: Summary
    weights: schema.Weights
    weights_per_seed: tuple[schema.Weights, ...]

    def derived(self):
        return dataclasses.replace(self, weights=schema.mean_weights(self.weights_per_seed))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MadeUp(schema.RunRecord):
    arms: dict[str, Arm]
    comparison: schema.Comparison
    mixmin: schema.Certificate

    def derived(self):
        difference = schema.paired(self.arms["mixmin"].loss, self.arms["uniform"].loss)
        return dataclasses.replace(self, comparison=schema.Comparison.of(difference, matters=self.matters))


def write(folder, results):
    record = results[""]
    losses = {arm: found.loss.per_seed for arm, found in record.arms.items()}
    figures = {"loss.png": loss_figure(losses), "gap.png": gap_figure({"mixmin": record.mixmin.gap_history})}
    write_report(folder, Report("made up", f"mean {record.arms['mixmin'].loss.mean:.3f}\n", figures))


def from_stages(record, stages):
    losses = summary(read_stage(stages / "losses.npz")[0]["losses"])
    arm = dataclasses.replace(record.arms["mixmin"], loss=losses)
    return dataclasses.replace(record, arms=record.arms | {"mixmin": arm})


QUESTION = Question(
    "made_up",
    MadeUp,
    write,
    files=lambda record: {"weights.json": {arm: found.weights for arm, found in record.arms.items()}},
    from_stages=from_stages,
    problems=lambda record, folder: ["it is odd"] * ("odd" in record.config),
)


def known(monkeypatch):
    """`experiments.questions` knows the experiment."""
    monkeypatch.setitem(questions._MODULES, "made_up", "made_up.report")
    module = types.SimpleNamespace(QUESTION=QUESTION)
    monkeypatch.setitem(sys.modules, "experiments.made_up.report", module)


def arm(losses, *weights):
    return Arm(summary(losses), schema.mean_weights(weights), weights)


def write_run(folder):
    """A complete run of two seeds, with its data beside it; no training behind it."""
    folder.mkdir()
    data = folder.parent / "data.bin"
    data.write_bytes(b"data")
    mixed = arm([1.0, 1.2], {"code": 0.7, "math": 0.3}, {"code": 0.9, "math": 0.1})
    even = arm([2.0, 2.3], {"code": 0.5, "math": 0.5}, {"code": 0.5, "math": 0.5})
    history = ((1.0, 1e-10), (1.0, None, 2e-10))
    record = MadeUp(
        experiment="made_up",
        seeds=(0, 1),
        made_by=schema.MadeBy("python -m x", "1 x cpu", "0123abc", {"matplotlib": matplotlib.__version__}),
        config={"seeds": 2},
        identity={"options": 1},
        data_sets=(file_record("source", data, {}),),
        seconds={},
        arms={"mixmin": mixed, "uniform": even},
        comparison=schema.Comparison.of(schema.paired(mixed.loss, even.loss), matters=0.0),
        mixmin=schema.Certificate(0.9, 2e-10, 1e-9, 3, True, "interior_point", 1, history),
    )
    write_json(folder / "metrics.json", record)
    for name, content in QUESTION.files(record).items():
        write_json(folder / name, content)
    write_json(folder / "config.json", {"format": 2, "options": 1})
    write_json(folder / "status.json", {"complete": True})
    write(folder, {"": record})
    return folder
