"""Whether the files of a run's folder agree with its result files: configuration, status, weights, stages, reports."""

import importlib.metadata
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.harness.provenance import made_by
from experiments.harness.run_folder import CONFIG, STAGES, STATUS
from experiments.harness.stages import Product, read_stage
from experiments.verify.earlier_results import identity_parts
from experiments.verify.findings import Check, Finding, Metrics, Result, differences, judged, skipped

Rewrite = Callable[[Path, Path, Mapping[str, Metrics]], None]  # (run's folder, other folder, metrics by subfolder)

_PROVENANCE = ("command", "versions", "device", "git_commit")


def read_json(path: Path) -> Any:
    """Strict JSON.  Raises OSError, or ValueError also for NaN and Infinity."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def provenance_there(result: Result) -> Iterator[Finding]:
    """Command, versions, device, commit, seeds, configuration and data sets are on record."""
    held = made_by(result.metrics)
    missing = [key for key in _PROVENANCE if key not in held]
    missing += [key for key in ("seeds", "config", "data_sets") if key not in result.metrics]
    what = "command, versions, device, commit, seeds, configuration and data sets are on record"
    if "data_sets" not in result.metrics:
        yield skipped(what, f"an earlier version wrote this; it has no {', '.join(missing)}")
    else:
        yield judged(what, [f"no {key}" for key in missing])
    commits = {str(held.get("git_commit")), *result.metrics.get("stage_commits", ())}
    loose = sorted(commit for commit in commits if commit == "None" or commit.endswith("+changes"))
    if loose:
        yield skipped("the code is that of a commit", f"it is {', '.join(loose)}")
    else:
        yield Finding("ok", "the code is that of a commit")


def status(result: Result) -> Iterator[Finding]:
    """status.json calls the run complete."""
    held = read_json(result.run / STATUS)
    how = held.get("how_to_go_on", "run it again")
    yield judged(
        f"{STATUS} calls the run complete", [] if held["complete"] is True else [f"it is not; go on with: {how}"]
    )


def config(result: Result) -> Iterator[Finding]:
    """config.json is the identity in the metrics; of earlier versions, whatever both hold."""
    held = read_json(result.run / CONFIG)
    if "identity" in result.metrics:
        yield judged(f"{CONFIG} is the run's identity", differences(held, result.metrics["identity"], exact=True))
        return
    pairs = list(identity_parts(held, result.metrics))
    wrong = [line for path, there, here in pairs for line in differences(there, here, path, exact=True)]
    yield judged(f"{CONFIG} and the metrics agree in the {len(pairs)} entries that both hold", wrong)


def weights_file(result: Result) -> Iterator[Finding]:
    """weights.json holds the metrics' weights."""
    arms = {arm: found["weights"] for arm, found in result.metrics["arms"].items() if "weights" in found}
    if result.metrics["experiment"] == "weights_from_file":
        arms.pop("uniform")  # which is there for its loss
    path, what = result.folder / "weights.json", "weights.json holds the weights of the metrics"
    if result.metrics["experiment"] == "mixed_mixtraining" and not path.exists():
        yield skipped(what, "it is not there; earlier versions wrote none")
        return
    notes = {"sources": found} if (found := result.metrics.get("source_notes")) else {}
    yield judged(what, differences(read_json(path), arms | notes, exact=True))


def overlap_file(result: Result) -> Iterator[Finding]:
    """overlap.json holds what the metrics say of near-duplicates."""
    path, what = result.folder / "overlap.json", "overlap.json holds the near-duplicates of the metrics"
    if not path.exists():
        yield skipped(what, "it is not there")
        return
    held, stated = read_json(path), result.metrics["overlap"]
    worst = [{key: value for key, value in match.items() if key != "part"} for match in stated["worst"]]
    expected = {key: held[key] for key in ("ngram", "threshold", "sources")} | {"worst": held["matches"][: len(worst)]}
    counted = {source: sum(m["source"] == source for m in held["matches"]) for source in held["sources"]}
    stated = {key: stated[key] for key in expected} | {"worst": worst}
    wrong = [*differences(stated, expected, "overlap", exact=True)]
    yield judged(what, [*wrong, *differences(held["sources"], counted, "overlap.json, sources")])


def stages(result: Result) -> Iterator[Finding]:
    """The stages that the metrics rest on can be read, and have the stated times and commits."""
    folder, what = result.run / STAGES, "stages are those of the metrics"
    files = sorted(folder.glob("*.npz"))
    if not files:
        yield skipped(what, "there are none in the folder; they are no part of a published result")
        return
    seconds, commits = result.metrics.get("seconds"), result.metrics.get("stage_commits")
    names = [path.stem for path in files] if seconds is None else list(seconds)
    wrong = []
    for name in names:
        try:
            _, record = read_stage(folder / f"{name}.npz")
        except Exception as error:  # NumPy raises half a dozen kinds on a damaged file
            wrong.append(f"{name}.npz cannot be read ({type(error).__name__})")
            continue
        if seconds is not None and record["seconds"] != seconds[name]:
            wrong.append(f"{name}.npz was made by another run")
        if commits is not None and str(record["made_by"]["git_commit"]) not in commits:
            wrong.append(
                f"{name}.npz is of the commit {record['made_by']['git_commit']}, which the metrics do not name"
            )
    yield judged(f"{what} ({len(names)})", wrong)


def stage_check(what: str, expected: Callable[[Metrics], Mapping[str, Callable[[Product], Any]]]) -> Check:
    """A check of numbers in stages: for each stage's name, the (stated, held) pair that a product gives."""

    def stage_numbers(result: Result) -> Iterator[Finding]:
        wrong: list[str] = []
        missing: list[str] = []
        for name, pair in expected(result.metrics).items():
            path = result.run / STAGES / f"{name}.npz"
            if not path.exists():
                missing.append(name)
                continue
            stated, held = pair(read_stage(path)[0])
            wrong += differences(stated, held, name)
        if missing and not wrong:
            yield skipped(what, f"no stage {missing[0]} in the folder")
        else:
            yield judged(what, wrong)

    return stage_numbers


def reports(run: Path, metrics: Mapping[str, Metrics], rewrite: Rewrite) -> Iterator[Finding]:
    """Reports and figures, written again from the metrics elsewhere, are those that lie in the folder.

    Text is compared byte for byte, figures pixel by pixel.  Figures that differ fail only where this matplotlib draws
    as that of the run did: its version is on record, or another figure of the run came out alike.
    """
    with tempfile.TemporaryDirectory() as place:
        rewrite(run, Path(place), metrics)
        made = {str(path.relative_to(place)): path for path in sorted(Path(place).rglob("*")) if path.is_file()}
        texts = {name: path.read_bytes() for name, path in made.items() if name.endswith(".md")}
        figures = {name: path.read_bytes() for name, path in made.items() if name.endswith(".png")}
    wrong = []
    for name, text in texts.items():
        lies = (run / name).read_bytes() if (run / name).exists() else None
        if lies != text:
            wrong.append(f"{name} is not there" if lies is None else f"{name} {_first_difference(lies, text)}")
    yield judged(f"reports and tables ({len(texts)}) follow from the metrics, byte for byte", wrong)
    if figures:
        yield from figures_agree(run, figures, next(iter(metrics.values())))
    there = [path for place in metrics for kind in ("*.md", "*.png") for path in sorted((run / place).glob(kind))]
    if others := {str(path.relative_to(run)) for path in there} - set(made):
        yield skipped("other reports and figures in the folder", f"{', '.join(sorted(others))} are not of this run")


def figures_agree(run: Path, figures: Mapping[str, bytes], metrics: Metrics) -> Iterator[Finding]:
    """Whether the PNG files in the folder show what those in `figures` do, by name; as `reports` says."""
    missing = [f"{name} is not there" for name in figures if not (run / name).exists()]
    there = [name for name in figures if (run / name).exists()]
    differ = [name for name in there if not _same_pixels((run / name).read_bytes(), figures[name])]
    drawn_by, here = made_by(metrics)["versions"].get("matplotlib"), importlib.metadata.version("matplotlib")
    same = len(differ) < len(there) if drawn_by is None else drawn_by == here
    wrong = [f"{name} shows something else" for name in differ if same]
    if missing or wrong or not differ:
        yield judged(f"figures ({len(figures)}) follow from the metrics, pixel by pixel", [*missing, *wrong])
    if differ and not same:
        which = "an unknown version" if drawn_by is None else f"version {drawn_by}"
        yield skipped(
            f"{len(differ)} of {len(figures)} figures",
            f"they differ from those of matplotlib {here}, and were drawn by {which} of it",
        )


def _same_pixels(a: bytes, b: bytes) -> bool:
    if a == b:
        return True
    try:
        pixels = [np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")) for content in (a, b)]
    except (OSError, SyntaxError, ValueError):  # what Pillow raises where it finds no picture
        return False
    return np.array_equal(pixels[0], pixels[1])


def _first_difference(lies: bytes, written: bytes) -> str:
    a, b = (text.decode(errors="replace").splitlines() for text in (lies, written))
    for number, pair in enumerate(zip(a, b, strict=False), start=1):
        if pair[0] != pair[1]:
            place = next(
                (i for i, chars in enumerate(zip(*pair, strict=False)) if chars[0] != chars[1]), min(map(len, pair))
            )
            first = max(place - 20, 0)
            return f"has {pair[0][first : first + 50]!r} in line {number}, not {pair[1][first : first + 50]!r}"
    return f"has {len(a)} lines, not {len(b)}"


def targets_agree(results: Sequence[Result]) -> Iterator[Finding]:
    """Every target that the run has is there, and all are of one command, configuration and commit."""
    there = [result.metrics["target"] for result in results]
    wrong = [f"there is none of {name}" for name in read_json(results[0].run / CONFIG)["targets"] if name not in there]
    for result in results[1:]:
        for key in ("command", "git_commit", "versions", "seeds", "config"):
            if result.metrics.get(key) != results[0].metrics.get(key):
                wrong.append(f"{result.folder.name} and {results[0].folder.name} differ in {key}")
    yield judged(f"targets ({len(results)}) are those of one run", wrong)
