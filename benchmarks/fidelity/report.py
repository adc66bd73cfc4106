"""What the benchmark of fidelity says: which proxies and rows to use, and the tables that say so."""

from collections.abc import Sequence

import numpy as np

from benchmarks.fidelity.figure import regret_figure
from benchmarks.fidelity.records import FidelityRecord, Quality, Way
from benchmarks.fidelity.ways import DOCUMENT
from benchmarks.tables import aligned_table
from experiments.reporting import markdown as md
from experiments.reporting.figures import figure_png

_NOTE = """\
Ranks: Spearman's correlation of predicted and reached losses over the random mixtures, uniform and natural. Regret:\
 bits per byte lost by taking the mixture with the best prediction instead of the best of them. Slope: reached gain\
 over natural per predicted gain. Costs are those for one target, as shares of one target run (scores and n-grams are\
 computed for all targets at once, and their seconds count in full). Numbers are means over pairs of sources and target.
"""


def report(record: FidelityRecord) -> dict[str, str | bytes]:
    """The report's file by its suffix: Markdown whose columns also line up on a screen."""
    choice, calibration = record.choice, record.calibration
    held = "" if calibration.held is None else f"; on the confirming ones {calibration.held:.0%} lie there"
    found = ""
    if calibration.held_found is not None:
        found = (
            f" Of the mixtures that were found for confirming targets, {calibration.held_found:.0%} lie there"
            f" (n = {calibration.num_found})."
        )
    parts = [
        f"Predicting which mixture is best. {record.made_by.device}.",
        f"Chosen on the targets {_listing(record.tuning)}: {choice.order}-grams, {choice.text},"
        f" rows of {_rows(choice.rows)}. Confirmed on {_listing(record.confirming)}.",
        f"{calibration.level:.0%} of the tuning mixtures that are predicted better than natural gain"
        f" {calibration.low:.2f} to {calibration.high:.2f} times what is predicted (median {calibration.middle:.2f},"
        f" n = {calibration.num_tuning}){held} (n = {calibration.num_confirming}).{found}",
        "## Rows, and other ways",
        _ways_table(record, [way for way in record.ways if _shown(way, record)]),
        f"## Order and text of n-grams, rows of {_rows(choice.rows)}",
        _ways_table(record, [way for way in record.ways if way.order is not None and way.reading == choice.rows]),
        _NOTE,
        "## Mixtures that were found",
        _found_table(record),
        "Weights were found on the fit part and trained once. The last column is negative where the found mixture"
        " is better than the best random one.",
        "## Ground truth",
        _world_table(record),
        "Noise: the standard deviation between two seeds of the same mixture, mean of uniform and natural.",
    ]
    return {".md": "\n\n".join(parts).rstrip() + "\n", ".png": figure_png(regret_figure(_panels(record)))}


def summary(record: FidelityRecord) -> str:
    """In one line: what was chosen, and its regret on the confirming targets."""
    choice = record.choice
    (way,) = (w for w in record.ways if (w.proxies, w.reading, w.order) == (choice.text, choice.rows, choice.order))
    pairs = _pairs(record, record.confirming) or _pairs(record, record.tuning)
    return (
        f"fidelity on {record.made_by.device}: {choice.order}-grams, rows of {_rows(choice.rows)}, rank"
        f" {_mean(way, pairs, 'spearman'):.2f}, regret {_mean(way, pairs, 'regret'):.3f} bits per byte on"
        f" {len(pairs)} pairs, {way.flops_share:.2%} of a target run"
    )


def _panels(record: FidelityRecord) -> dict[str, dict[str, tuple[float, float]]]:
    """For the figure: every kind of proxies in the chosen rows, and every regression."""
    shown = [
        way
        for way in record.ways
        if (_shown(way, record) and way.reading in (record.choice.rows, DOCUMENT))
        or not (way.order or way.reading.isdecimal() or way.reading == DOCUMENT)
    ]
    groups = {"tuning targets": record.tuning, "confirming targets": record.confirming}
    return {
        group: {_label(way): (way.flops_share, _mean(way, _pairs(record, targets), "regret")) for way in shown}
        for group, targets in groups.items()
        if targets
    }


def _label(way: Way) -> str:
    return f"{way.proxies}, {way.reading}" if way.order or not way.reading.isdecimal() else way.proxies


def _listing(names: Sequence[str]) -> str:
    return md.listing([md.code(name) for name in names]) if names else "nothing"


def _rows(rows: str) -> str:
    return f"whole {DOCUMENT}s" if rows == DOCUMENT else md.plural(int(rows), "byte")


def _shown(way: Way, record: FidelityRecord) -> bool:
    """The chosen n-grams in all rows, trained proxies in the rows of interest, all regressions."""
    if way.order is not None:
        return (way.proxies, way.order) == (record.choice.text, record.choice.order)
    return not way.reading.isdecimal() or way.reading in (record.choice.rows, "1")


def _pairs(record: FidelityRecord, targets: Sequence[str]) -> list[str]:
    return [f"{world.name}/{target}" for world in record.worlds for target in targets]


def _mean(way: Way, pairs: Sequence[str], field: str) -> float:
    values = [getattr(way.quality[pair], field) for pair in pairs]
    return float(np.mean([value for value in values if value is not None])) if pairs else float("nan")


def _ways_table(record: FidelityRecord, ways: Sequence[Way]) -> str:
    groups = {
        name: _pairs(record, targets)
        for name, targets in (("tuning", record.tuning), ("confirming", record.confirming))
        if targets
    }
    fields = [field for field in Quality.__dataclass_fields__ if field != "error"]
    header = ["proxies or runs", "order", "read by", *(f"{field}, {name}" for name in groups for field in fields)]
    rows = [
        [
            way.proxies,
            "" if way.order is None else str(way.order),
            way.reading,
            *(
                f"{_mean(way, pairs, field):.{2 + (field == 'regret')}f}"
                for pairs in groups.values()
                for field in fields
            ),
            f"{way.flops_share:.2%}",
            f"{way.seconds_share:.1%}",
        ]
        for way in ways
    ]
    return aligned_table([*header, "FLOPs", "seconds"], rows)


def _found_table(record: FidelityRecord) -> str:
    header = ["sources/target", "proxies", "rows", "predicted gain", "gain", "loss", "less best random"]
    rows = [
        [
            md.code(pair),
            one.proxies,
            one.rows,
            f"{one.predicted_gain:.3f}",
            f"{one.gain:.3f}",
            f"{one.reached:.3f}",
            f"{one.over_best_random:+.3f}",
        ]
        for pair, found in record.found.items()
        for one in found
    ]
    return aligned_table(header, rows)


def _world_table(record: FidelityRecord) -> str:
    header = ["sources/target", "tokens", "s a run", "noise", "best random", "uniform", "natural", "worst"]
    rows = [
        [
            md.code(f"{world.name}/{target}"),
            md.si_count(world.target_tokens),
            f"{world.target_seconds:.0f}",
            f"{world.noise[target]:.4f}",
            *(f"{bits:.3f}" for bits in (min(reached[:-2]), *reached[-2:], max(reached))),
        ]
        for world in record.worlds
        for target, reached in world.reached.items()
    ]
    return aligned_table(header, rows)
