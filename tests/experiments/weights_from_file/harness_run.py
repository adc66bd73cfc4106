"""A run of the real lm-evaluation-harness on made-up tasks, with a model whose answers are known."""

import hashlib
import json

import numpy as np
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

DOCUMENTS = [{"text": f"it is {n}, is it?", "choices": ["yes", "no"], "answer": n % 2} for n in range(5)]
TASKS = {
    "cloze": {"output_type": "loglikelihood", "doc_to_text": "{{text}}", "doc_to_target": " {{choices[answer]}}"},
    "rolling": {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"},
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_target": "answer",
        "doc_to_choice": "choices",
    },
}
METRICS = {"cloze": "acc", "rolling": "bits_per_byte", "choice": "acc"}


class Known(LM):
    """A model that answers with a hash of its name and the question."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def answer(self, *asked):
        return -int(hashlib.sha256(json.dumps([self.name, *asked]).encode()).hexdigest()[:6], 16) / 1e6

    def loglikelihood(self, requests):
        return [(self.answer(*request.args), False) for request in requests]

    def loglikelihood_rolling(self, requests):
        return [self.answer(*request.args) for request in requests]

    def generate_until(self, requests):
        raise AssertionError("no task here generates")


def run_harness(folder):
    """{kind of task: (N, K) log-likelihoods of the right answers, and the log of each source} for two models."""
    (folder / "data.jsonl").write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS))
    data = {"data_files": {"test": str(folder / "data.jsonl")}, "cache_dir": str(folder / "cache")}
    tasks = [
        task
        | {"task": name, "dataset_path": "json", "dataset_kwargs": data, "test_split": "test"}
        | {"metric_list": [{"metric": METRICS[name]}]}
        for name, task in TASKS.items()
    ]
    models, logs = [Known("web"), Known("code")], {name: {} for name in TASKS}
    for model in models:
        found = simple_evaluate(
            model,
            tasks=tasks,
            log_samples=True,
            bootstrap_iters=0,
            task_manager=TaskManager(include_defaults=False),
        )
        tracker = EvaluationTracker(output_path=str(folder / model.name))
        tracker.save_results_aggregated(results={}, samples=found["samples"])
        for name in TASKS:
            tracker.save_results_samples(task_name=name, samples=found["samples"][name])
            (logs[name][model.name],) = folder.glob(f"{model.name}/**/samples_{name}_*.jsonl")
    right = [(document["text"], f" {document['choices'][document['answer']]}") for document in DOCUMENTS]
    asked = {"cloze": right, "rolling": [(document["text"],) for document in DOCUMENTS], "choice": right}
    return {
        name: (np.array([[model.answer(*question) for model in models] for question in asked[name]]), logs[name])
        for name in TASKS
    }
