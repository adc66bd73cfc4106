"""Per-sample logs of EleutherAI's lm-evaluation-harness (`lm_eval --log_samples`), one per model, as one table.

A log (samples_TASK_DATE.jsonl) has a line per document: what the model was asked (`arguments`), the right answer
(`target`), and the log-likelihoods in nats (`resps`), which the harness writes as text.

    output type of the task     the log-likelihood of an example
    loglikelihood               log p(continuation | context)
    multiple_choice             log p(right choice | context), not normalized over the choices
    loglikelihood_rolling       log p(document)

Documents are matched by `doc_id`; what was asked must be the same in all logs.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.assignments import is_number
from experiments.weights_from_file.data import Table
from mixmin_jax.data.files import BYTE_ORDER_MARK, decode_utf8, refuse_odd_name
from mixmin_jax.errors import InputError, read_each

LOG = ".jsonl"
_FIELDS = ("doc_id", "doc", "arguments", "target", "resps", "filtered_resps")
_ROUNDING = 1e-3  # most that a log-likelihood may be above 0: half precision rounds so
_TWICE = "acc_mutual_info"  # a metric for which every choice is scored once more, without its context


@dataclasses.dataclass(frozen=True)
class _Sample:
    """One line: log-likelihoods, and what they are of."""

    place: str
    kind: str  # the output type of the task
    by_number: float | None  # log-likelihood of the right answer, if `target` is its number
    by_text: float | None  # the same, if `target` is its text
    target: str
    doc_hash: str | None
    asked: str  # hash of the arguments
    filter: str | None
    group: str | None


def read_logs(paths: Mapping[str, Path], group: str | None = None) -> Table:
    """One log per source as a table of log-likelihoods, in the order of the first log.

    Args:
        paths: the log of each source's model, all of the same task.
        group: the field of `doc` that labels groups of examples.

    Raises:
        InputError: with file and line: what is no such log; a task that generates text; several filters, right answers
            or runs in a log; choices of which the log does not say which is right; logs that were asked other things.
    """
    source, first = next(iter(paths.items()))
    if twice := [path for path in paths.values() if list(paths.values()).count(path) > 1]:
        raise InputError(f"{twice[0]}: given as the log of several sources; every source has a model of its own")
    logs = dict(zip(paths, read_each(paths.values(), lambda path: _read_log(path, group)), strict=True))
    columns = []
    for name, path in paths.items():
        _refuse_other_questions(path, logs[name], first, logs[source])
        columns.append(_right_answers([logs[name][doc] for doc in logs[source]]))
    group_N = None if group is None else np.array([sample.group for sample in logs[source].values()])
    return Table(tuple(paths), np.column_stack(columns), None, None, group_N)


def _read_log(path: Path, group: str | None) -> dict[int, _Sample]:
    """The lines of one log by `doc_id`."""
    found: dict[int, _Sample] = {}
    for place, line in _lines(path):
        if missing := [field for field in _FIELDS if field not in line]:
            raise InputError(f"{place}: no field {missing[0]!r}; expected a log of lm_eval --log_samples")
        doc = line["doc_id"]
        if type(doc) is not int:
            raise InputError(f"{place}: doc_id must be a whole number, not {doc!r:.40}")
        sample = _sample(place, line, group)
        first = next(iter(found.values()), sample)
        if sample.filter != first.filter:
            raise InputError(
                f"{place}: the filter {sample.filter!r}, but {first.filter!r} before; keep the lines of one filter"
            )
        if sample.kind != first.kind:
            raise InputError(f"{place}: a line of a {sample.kind} task, but of a {first.kind} task before")
        if doc in found:
            raise InputError(f"{place}: document {doc} is there twice; keep the lines of one run")
        found[doc] = sample
    if not found:
        raise InputError(f"{path}: no line in it")
    return found


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects in a file of JSON lines, each with its place."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    refuse_odd_name(path)
    with path.open("rb") as file:
        for number, data in enumerate(file, 1):
            place = f"{path}, line {number}"
            text = decode_utf8(data.removeprefix(BYTE_ORDER_MARK) if number == 1 else data, place)
            if not text.strip():
                continue
            try:
                line = json.loads(text)
            except (ValueError, RecursionError, MemoryError) as error:
                raise InputError(f"{place}: not JSON ({str(error) or type(error).__name__})") from error
            if not isinstance(line, dict):
                raise InputError(f"{place}: not a JSON object but {type(line).__name__}")
            yield place, line


def _sample(place: str, line: dict[str, Any], group: str | None) -> _Sample:
    """What a line says; checked, but for what depends on other lines."""
    requests, responses = _requests(place, line["arguments"]), line["resps"]
    if any(len(request) > 1 and not isinstance(request[1], str) for request in requests):
        raise InputError(
            f"{place}: the task generates text, which has no log-likelihood; give logs of loglikelihood,"
            " multiple_choice or loglikelihood_rolling tasks"
        )
    if not isinstance(responses, list) or len(responses) != len(requests):
        raise InputError(f"{place}: `resps` does not hold one entry per request of `arguments`")
    if not all(isinstance(response, list) and len(response) == 1 for response in responses):
        raise InputError(f"{place}: `resps` must hold one response per request; log the task without repeats")
    if [response[0] for response in responses] != line["filtered_resps"]:
        raise InputError(f"{place}: the filter {line.get('filter')!r} changes the log-likelihoods; log without it")
    if _TWICE in line:
        raise InputError(f"{place}: the metric {_TWICE} scores every choice twice; log the task without it")
    rolling = len(requests[0]) == 1
    if rolling and len(requests) > 1:
        raise InputError(f"{place}: a document in {len(requests)} parts, of which the log does not say how they belong")
    values = [_log_likelihood(place, response[0], rolling) for response in responses]
    target, by_number, by_text = str(line["target"]), None, None
    kind = "loglikelihood_rolling" if rolling else "loglikelihood" if len(values) == 1 else "multiple_choice"
    if kind != "multiple_choice":
        by_number = by_text = values[0]
    elif len({request[0] for request in requests}) > 1:
        raise InputError(
            f"{place}: the choices stand in the context, as in winogrande, so the log does not say which one is right"
        )
    else:
        if target in (numbers := [str(number) for number in range(len(values))]):
            by_number = values[numbers.index(target)]
        texts = [request[1].strip() for request in requests]
        if texts.count(target.strip()) == 1:
            by_text = values[texts.index(target.strip())]
    return _Sample(
        place=place,
        kind=kind,
        by_number=by_number,
        by_text=by_text,
        target=target,
        doc_hash=line.get("doc_hash"),
        asked=hashlib.sha256(json.dumps(requests).encode()).hexdigest(),
        filter=line.get("filter"),
        group=None if group is None else _label(place, line["doc"], group),
    )


def _requests(place: str, arguments: Any) -> list[list[Any]]:
    """The arguments of each request: {"gen_args_0": {"arg_0": ..., "arg_1": ...}, ...}; lists in old versions."""
    requests = arguments
    if isinstance(arguments, dict) and list(arguments) == [f"gen_args_{i}" for i in range(len(arguments))]:
        requests = list(arguments.values())
    if isinstance(requests, list):
        requests = [list(request.values()) if isinstance(request, dict) else request for request in requests]
        whole = all(isinstance(request, list) and request and isinstance(request[0], str) for request in requests)
        if whole and len({len(request) for request in requests}) == 1:
            return requests
    raise InputError(f"{place}: `arguments` does not hold what the model was asked")


def _log_likelihood(place: str, response: Any, rolling: bool) -> float:
    """That of [log-likelihood, whether it is the likeliest]; of a rolling one there is the first alone."""
    length = 1 if rolling else 2
    parts = response if isinstance(response, list) else [response]
    if len(parts) != length or isinstance(parts[0], bool) or not is_number(str(parts[0])):
        raise InputError(
            f"{place}: {response!r:.60} in `resps` is not {'a log-likelihood' if rolling else '[log-likelihood, bool]'}"
        )
    value = float(str(parts[0]))
    if value > _ROUNDING:
        raise InputError(
            f"{place}: a log-likelihood of {value:.6g} in `resps`, and a log-probability is never above 0; if these are"
            " negative log-likelihoods (losses), change the sign"
        )
    return value


def _label(place: str, doc: Any, group: str) -> str:
    fields = doc if isinstance(doc, dict) else {}
    if group not in fields:
        raise InputError(f"{place}: --groups: `doc` has no field {group!r}; it has {', '.join(fields) or 'none'}")
    if type(fields[group]) not in (str, int):
        raise InputError(f"{place}: --groups: the field {group!r} must be a string or a whole number")
    return str(fields[group])


def _right_answers(samples: Sequence[_Sample]) -> list[float]:
    """The log-likelihood of every right answer: `target` is its number in all lines, or its text in all."""
    by_number, by_text = ([getattr(sample, name) for sample in samples] for name in ("by_number", "by_text"))
    readings = [reading for reading in (by_number, by_text) if None not in reading]
    if not readings:
        # the line that is worst: one with neither reading, if there is one
        wrong = min(samples, key=lambda sample: (sample.by_number, sample.by_text).count(None) != 2)
        raise InputError(
            f"{wrong.place}: the target {wrong.target!r:.60} is the number or the text of none of the choices, or of"
            " several; tasks with several right answers are not read"
        )
    if len(readings) == 2 and (differ := [n for n in range(len(samples)) if by_number[n] != by_text[n]]):
        raise InputError(
            f"{samples[differ[0]].place}: the target {samples[differ[0]].target!r:.60} may be the number of a choice or"
            " its text, and in no line of the log is it only one of both"
        )
    return readings[0]


def _refuse_other_questions(path: Path, log: Mapping[int, _Sample], first: Path, wanted: Mapping[int, _Sample]) -> None:
    """Raise InputError unless the model of `log` was asked the same as that of the `first` log."""
    same = "log all models with the same task, version, --limit, --num_fewshot, --seed and chat template"
    if missing := [doc for doc in wanted if doc not in log]:
        raise InputError(f"{path}: no document {missing[0]}, which is in {first}; {same}")
    if extra := [doc for doc in log if doc not in wanted]:
        raise InputError(f"{log[extra[0]].place}: document {extra[0]} is not in {first}; {same}")
    fields = {"kind": "output type", "doc_hash": "doc_hash", "asked": "prompt", "target": "target", "group": "group"}
    for doc, sample in log.items():
        for field, shown in fields.items():
            if getattr(sample, field) != getattr(wanted[doc], field):
                raise InputError(f"{sample.place}: document {doc} has another {shown} than in {first}; {same}")
