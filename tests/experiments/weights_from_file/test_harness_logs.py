"""Per-sample logs of the lm-evaluation-harness: the right answer's log-likelihood, and what is refused."""

import json
import re

import numpy as np
import pytest

from experiments.weights_from_file.harness_logs import read_logs
from experiments.weights_from_file.targets import read_targets
from mixmin_jax import InputError
from tests.experiments.weights_from_file.harness_lines import choice, cloze, line, rolling, write


@pytest.fixture
def logp_NxK():
    return np.random.default_rng(0).normal(-20, 3, size=(6, 2))


def logs(tmp_path, lines_a, lines_b):
    return {"web": write(tmp_path / "a.jsonl", lines_a), "code": write(tmp_path / "b.jsonl", lines_b)}


@pytest.mark.parametrize("kind", [cloze, rolling])
def test_documents_are_matched_by_number(tmp_path, logp_NxK, kind):
    a, b = ([kind(n, logp) for n, logp in enumerate(logp_N.tolist())] for logp_N in logp_NxK.T)
    table = read_logs(logs(tmp_path, a[::-1], b[2:] + b[:2]))
    np.testing.assert_array_equal(table.logp_NxK, logp_NxK[::-1])
    assert table.sources == ("web", "code") and table.length_N is None and table.group_N is None


@pytest.mark.parametrize(
    ("choices", "targets", "right"),
    [
        (("yes", "no", "maybe"), [1, 2], [1, 2]),
        (("yes", "no", "maybe"), ["no", "yes"], [1, 0]),
        (("0", "1", "2"), ["1", "2"], [1, 2]),
        (("3", "2", "1"), ["0", "1"], [0, 1]),  # no choice is called 0, so these are numbers of choices
        (("3", "2", "1"), ["3", "1"], [0, 2]),  # there is no choice number 3, so these are texts
    ],
)
def test_the_right_choice_by_number_or_text(tmp_path, choices, targets, right):
    logp = [[-1.0, -2.0, -3.0], [-4.0, -5.0, -6.0]]
    lines = [choice(n, logp[n], choices, targets[n]) for n in range(2)]
    table = read_logs(logs(tmp_path, lines, lines))
    np.testing.assert_array_equal(table.logp_NxK[:, 0], [logp[n][right[n]] for n in range(2)])


def test_numbers_lists_and_infinity_are_read_as_older_versions_wrote_them(tmp_path):
    plain = cloze(0, -1.5) | {"arguments": [["the last word is", " word0"]], "resps": [[[-1.5, False]]]}
    plain |= {"filtered_resps": [[-1.5, False]]}
    for field in ("filter", "metrics", "doc_hash", "prompt_hash", "target_hash"):
        del plain[field]
    impossible = plain | {"resps": [[["-inf", "False"]]], "filtered_resps": [["-inf", "False"]]}
    table = read_logs(logs(tmp_path, [plain], [impossible]))
    np.testing.assert_array_equal(table.logp_NxK, [[-1.5, -np.inf]])


def test_groups_are_a_field_of_the_document(tmp_path, logp_NxK):
    lines = [rolling(n, logp) for n, logp in enumerate(logp_NxK[:, 0].tolist())]
    table = read_logs(logs(tmp_path, lines, lines), "author")
    assert table.group_N.tolist() == [f"author {n // 2}" for n in range(6)]


A, B = cloze(0, -1.0), cloze(1, -2.0)


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ([], ["a.jsonl: no line"]),
        ([{"results": {}}], ["line 1", "no field 'doc_id'", "--log_samples"]),
        ([[1, 2]], ["line 1", "not a JSON object but list"]),
        ([A, A], ["line 2", "document 0 is there twice"]),
        ([A, A | {"filter": "strict"}], ["line 2", "the filter 'strict', but 'none' before"]),
        ([A | {"filtered_resps": [["-0.5", "False"]], "filter": "f"}], ["filter 'f' changes the log-likelihoods"]),
        ([A, rolling(1, -3.0)], ["line 2", "a loglikelihood_rolling task, but of a loglikelihood task"]),
        ([A | {"resps": [[["-1.0", "False"], ["-1.1", "False"]]]}], ["without repeats"]),
        ([A | {"resps": []}], ["one entry per request"]),
        ([A | {"resps": [["x"]], "filtered_resps": ["x"]}], ["'x' in `resps` is not [log-likelihood, bool]"]),
        ([A | {"arguments": "what?"}], ["`arguments` does not hold"]),
        ([A | {"arguments": {"gen_args_1": {"arg_0": "a", "arg_1": "b"}}}], ["`arguments` does not hold"]),
        ([A | {"doc_id": "0"}], ["doc_id must be a whole number"]),
        ([line(0, [["say", {"until": ["."]}]], ["so"], "so")], ["generates text"]),
        ([choice(0, [-1.0] * 3, acc_mutual_info=0.0)], ["acc_mutual_info scores every choice twice"]),
        ([choice(0, [-1.0] * 3, target="[0, 1]")], ["'[0, 1]'", "several right answers are not read"]),
        ([choice(0, [-1.0] * 3, target=3)], ["'3' is the number or the text of none of the choices"]),
        ([choice(0, [-1.0] * 3, ("a", "a", "b"), "a")], ["or of several"]),
        ([choice(0, [-1.0, -2.0, -3.0], ("2", "1", "0"), "2")], ["'2' may be the number of a choice or its text"]),
        ([line(0, [["he", " so"], ["she", " so"]], [(-1.0, True)] * 2, "so")], ["choices stand in the context"]),
        ([line(0, [["a"], ["b"]], [-1.0, -2.0], "ab")], ["a document in 2 parts"]),
    ],
)
def test_a_line_that_may_mean_something_else_is_refused(tmp_path, lines, parts):
    path = write(tmp_path / "a.jsonl", lines)
    with pytest.raises(InputError) as caught:
        read_logs({"web": path})
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    assert not [part for part in parts if part not in message], message


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ([A], "b.jsonl: no document 1, which is in"),
        ([A, B, cloze(2, -1.0)], "b.jsonl, line 3: document 2 is not in"),
        ([A, B | {"doc_hash": "x"}], "b.jsonl, line 2: document 1 has another doc_hash"),
        ([A, B | {"arguments": {"gen_args_0": {"arg_0": "shots", "arg_1": " word1"}}}], "another prompt"),
        ([A, B | {"target": "word"}], "another target"),
        ([rolling(0, -1.0), rolling(1, -1.0)], "another output type"),
    ],
)
def test_logs_of_other_questions_are_refused(tmp_path, other, why):
    with pytest.raises(InputError, match=re.escape(why)):
        read_logs(logs(tmp_path, [A, B], other))


def test_a_line_that_is_no_json_and_a_group_that_is_not_there(tmp_path):
    path = write(tmp_path / "a.jsonl", [A])
    with pytest.raises(InputError, match="`doc` has no field 'page'; it has text, author"):
        read_logs({"web": path}, "page")
    path.write_text(path.read_text()[:-30])
    with pytest.raises(InputError, match="line 1: not JSON"):
        read_logs({"web": path})


def test_logs_by_target(tmp_path, logp_NxK):
    for name in ("one", "two"):
        for k in range(2):
            write(tmp_path / f"{name}{k}.jsonl", [rolling(n, logp_NxK[n, k]) for n in range(6 if name == "one" else 4)])
    specs = [f"{source}={tmp_path}/{name}{k}.jsonl" for k, source in enumerate("ab") for name in ("one", "two")]
    first, second = read_targets(specs)
    np.testing.assert_array_equal(first.table.logp_NxK, logp_NxK)
    np.testing.assert_array_equal(second.table.logp_NxK, logp_NxK[:4])
    assert first.name == f"{specs[0]} and 1 more" and second.example_weight == 1 / 4


@pytest.mark.parametrize(
    ("specs", "row", "why"),
    [
        (["{}"], None, "say which source the model of a log was trained on, NAME="),
        (["=a.jsonl"], None, "say which source"),
        (["a={}", "x.npz"], None, "logs (.jsonl) or tables, not both"),
        (["a={}", "b={}"], None, "given as the log of several sources"),
        (["a={}", "b=x.jsonl", "b=y.jsonl"], None, "2 logs of 'b', but 1 of 'a'"),
        (["a={}", "b=none.jsonl"], None, "none.jsonl: no such file"),
        (["a={}"], "64", "in a log, a row is a document"),
    ],
)
def test_logs_that_cannot_be_told_apart_are_refused(tmp_path, specs, row, why):
    path = write(tmp_path / "a.jsonl", [A, B])
    with pytest.raises(InputError, match=re.escape(why)):
        read_targets([spec.format(path) for spec in specs], row)


def shape(value):
    """The nesting of a value of JSON, with the types of what is inside."""
    if isinstance(value, dict):
        return {key: shape(part) for key, part in value.items()}
    return [shape(part) for part in value] if isinstance(value, list) else type(value)


def test_lines_are_those_of_the_harness(tmp_path):
    """The harness itself writes logs of the three kinds of tasks, with a model whose answers are known."""
    pytest.importorskip("lm_eval")
    from tests.experiments.weights_from_file.harness_run import run_harness

    ours = {"cloze": cloze(0, -1.0), "rolling": rolling(0, -1.0), "choice": choice(0, [-1.0] * 2, ("yes", "no"))}
    for kind, (logp_NxK, paths) in run_harness(tmp_path).items():
        np.testing.assert_array_equal(read_logs(paths).logp_NxK, logp_NxK)
        theirs = json.loads(paths["web"].read_text().splitlines()[0])
        for field in set(ours[kind]) - {"acc", "doc"}:
            assert shape(ours[kind][field]) == shape(theirs[field]), field


def test_negative_log_likelihoods_are_no_log_probabilities(tmp_path):
    fine, losses = [cloze(0, -1.5), cloze(1, 1e-6)], [cloze(0, -1.5), cloze(1, 2.5)]
    assert read_logs(logs(tmp_path, fine, fine)).logp_NxK.shape == (2, 2)
    with pytest.raises(InputError, match=r"b.jsonl, line 2: a log-likelihood of 2.5 .* never above 0"):
        read_logs(logs(tmp_path, fine, losses))
    with pytest.raises(InputError, match="2 things are wrong") as caught:
        read_logs(logs(tmp_path, losses, losses))
    assert "a.jsonl, line 2" in str(caught.value) and "b.jsonl, line 2" in str(caught.value)
