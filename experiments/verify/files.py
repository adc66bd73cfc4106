"""Whether the files of a run's folder agree with its records: configuration, status, weights, stages, reports."""

import importlib.metadata
import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.harness.run_folder import CONFIG, STAGES, STATUS
from experiments.harness.stages import read_stage
from experiments.reporting.json_files import read_json, to_builtins
from experiments.verify.findings import Finding, Result, differences, judged, skipped
from experiments.verify.numbers import computed_again


def status(result: Result) -> Iterator[Finding]:
    """status.json calls the run complete."""
    if not (result.run / STATUS).exists() and not (result.run / CONFIG).exists():
        return  # of an experiment without stages
    held = read_json(result.run / STATUS)
    wrong = [] if held["complete"] is True else [f"it is not; go on with: {held.get('how_to_go_on', 'run it again')}"]
    yield judged(f"{STATUS} calls the run complete", wrong)


def targets(results: Sequence[Result]) -> Iterator[Finding]:
    """Every target that the run has is there, and all are of one command, configuration and commit."""
    first = results[0]
    if not first.question.by_target:
        return
    there = [result.metrics.target for result in results]
    wrong = [f"there is none of {name}" for name in first.metrics.identity["targets"] if name not in there]
    wrong += [
        f"{result.folder.name} and {first.folder.name} differ in {key}"
        for result in results[1:]
        for key in ("made_by", "seeds", "config")
        if getattr(result.metrics, key) != getattr(first.metrics, key)
    ]
    yield judged(f"targets ({len(results)}) are those of one run", wrong)


def identity(result: Result) -> Iterator[Finding]:
    """config.json is the identity in the record."""
    if (result.run / CONFIG).exists():
        held = read_json(result.run / CONFIG)
        held.pop("format", None)
        yield judged(f"{CONFIG} is the run's identity", differences(held, result.metrics.identity, exact=True))


def beside(result: Result) -> Iterator[Finding]:
    """weights.json, and what else follows from the record, holds what it should."""
    for name, expected in result.question.files(result.metrics).items():
        held = read_json(result.folder / name)
        yield judged(f"{name} holds what the record says", differences(held, to_builtins(expected), exact=True))


def stages(result: Result) -> Iterator[Finding]:
    """The stages that the record rests on can be read, and have the stated times and commits."""
    folder, what = result.run / STAGES, "stages are those of the record"
    if not any(folder.glob("*.npz")):
        if (result.run / CONFIG).exists():
            yield skipped(what, "there are none in the folder; they are no part of a published result")
        return
    wrong = []
    for name, seconds in result.metrics.seconds.items():
        try:
            _, record = read_stage(folder / f"{name}.npz")
        except Exception as error:  # NumPy raises half a dozen kinds on a damaged file
            wrong.append(f"{name}.npz cannot be read ({type(error).__name__})")
            continue
        made_at = str(record.made_by.git_commit)
        wrong += [f"{name}.npz was made by another run"] * (record.seconds != seconds)
        wrong += [f"{name}.npz is of the commit {made_at}, which the record does not name"] * (
            made_at not in result.metrics.stage_commits
        )
    yield judged(f"{what} ({len(result.metrics.seconds)})", wrong)


def from_stages(result: Result) -> Iterator[Finding]:
    """With what its stages say in their place, the record is the same."""
    folder, what = result.run / STAGES, "the record follows from its stages"
    found = result.question.from_stages(result.metrics, folder) if any(folder.glob("*.npz")) else None
    if found is None:
        if (result.run / CONFIG).exists():
            yield skipped(what, "they are not in the folder, or the record rests on none")
        return
    # what does not follow inside the record is told apart, by `numbers.derived`
    stated = computed_again(result.metrics)
    yield judged(what, differences(to_builtins(stated), to_builtins(computed_again(found))))


def reports(results: Sequence[Result]) -> Iterator[Finding]:
    """Reports and figures, written again from the records elsewhere, are those that lie in the folder.

    Text is compared byte for byte, figures pixel by pixel. Figures that differ fail only where this matplotlib draws
    as that of the run did: its version is on record, or another figure of the run came out alike. HTML pages hold the
    same text and figures and are not compared.
    """
    run, question = results[0].run, results[0].question
    records = {"" if result.folder == run else result.folder.name: result.metrics for result in results}
    with tempfile.TemporaryDirectory() as place:
        for arrays in run.glob("*.npz"):  # pictures that figures show
            shutil.copy(arrays, place)
        question.write(Path(place), records)
        made = {str(path.relative_to(place)): path for path in sorted(Path(place).rglob("*")) if path.is_file()}
        texts = {name: path.read_bytes() for name, path in made.items() if name.endswith(".md")}
        figures = {name: path.read_bytes() for name, path in made.items() if name.endswith(".png")}
    wrong = []
    for name, text in texts.items():
        lies = (run / name).read_bytes() if (run / name).exists() else None
        if lies != text:
            wrong.append(f"{name} is not there" if lies is None else f"{name} {_first_difference(lies, text)}")
    if texts:
        yield judged(f"reports and tables ({len(texts)}) follow from the records, byte for byte", wrong)
    if figures:
        yield from figures_agree(run, figures, results[0].metrics.made_by.versions.get("matplotlib"))
    there = [path for place in records for kind in ("*.md", "*.png") for path in sorted((run / place).glob(kind))]
    if others := {str(path.relative_to(run)) for path in there} - set(made):
        yield skipped("other reports and figures in the folder", f"{', '.join(sorted(others))} are not of this run")


def figures_agree(run: Path, figures: Mapping[str, bytes], drawn_by: str | None) -> Iterator[Finding]:
    """Whether the PNG files in the folder show what those in `figures` do, by name; as `reports` says.

    `drawn_by` is the version of matplotlib that drew them, None if it is not on record."""
    missing = [f"{name} is not there" for name in figures if not (run / name).exists()]
    there = [name for name in figures if (run / name).exists()]
    differ = [name for name in there if not _same_pixels((run / name).read_bytes(), figures[name])]
    here = importlib.metadata.version("matplotlib")
    same = len(differ) < len(there) if drawn_by is None else drawn_by == here
    wrong = [f"{name} shows something else" for name in differ if same]
    if missing or wrong or not differ:
        yield judged(f"figures ({len(figures)}) follow from the records, pixel by pixel", [*missing, *wrong])
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
    a, b = (text.decode(errors="replace") for text in (lies, written))
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    first = max(place - 20, 0)
    return f"has {a[first : first + 50]!r} in line {a.count(chr(10), 0, place) + 1}, not {b[first : first + 50]!r}"
