"""Numbers, names and quotations as Markdown: what every report needs."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, numbers to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def spread(summary: Mapping[str, Any]) -> str:
    """`mean ± std` of a `comparison.summary`; the mean alone where one value has no spread."""
    return f"{summary['mean']:.3f}" + (f" ± {summary['std']:.3f}" if summary["std"] is not None else "")


def plus_minus(difference: Mapping[str, Any], signed: bool = False) -> str:
    """`mean ± standard error` of a `comparison.Difference`; its size alone unless `signed`."""
    mean = f"{difference['mean']:+.4f}" if signed else f"{abs(difference['mean']):.4f}"
    error = difference["standard_error"]
    return mean + (f" ± {error:.4f}" if error is not None else " (error unknown)")


def percent_spread(summary: Mapping[str, Any]) -> str:
    """`49.9 ± 0.3%`: a `comparison.summary` of shares; the mean alone where one value has no spread."""
    spread = f" ± {100 * summary['std']:.1f}" if summary["std"] is not None else ""
    return f"{100 * summary['mean']:.1f}{spread}%"


def percent(share: float) -> str:
    """A round share without zeros behind it: `10%`, `12.5%`."""
    return f"{100 * share:.4g}%"


def number_range(values: Iterable[float]) -> str:
    """`1.21 to 1.34`: the least and the largest, with two decimals; one number where they look the same."""
    found = sorted(values)
    low, high = f"{found[0]:.2f}", f"{found[-1]:.2f}"
    return low if low == high else f"{low} to {high}"


def points(difference: Mapping[str, Any]) -> str:
    """`+0.68 ± 0.21`: a `comparison.Difference` of shares, in percentage points, with its standard error."""
    error = difference["standard_error"]
    return f"{100 * difference['mean']:+.2f}" + (f" ± {100 * error:.2f}" if error is not None else "")


def certificate_header(unit: str) -> list[str]:
    """The header over `certificate_cells`; `unit` is that of the loss."""
    return [f"loss, {unit}", "gap", "tolerance", "iterations", "converged", "method", "seed"]


def certificate_cells(solved: Mapping[str, Any]) -> list[str]:
    """Solved weights in a table under `certificate_header`."""
    return [
        f"{solved['loss']:.6f}",
        f"{solved['gap']:.1e}",
        f"{solved['tolerance']:.0e}",
        str(solved["iterations"]),
        "yes" if solved["converged"] else "**no**",
        solved["method"].replace("_", " "),
        str(solved["seed"]),
    ]


def spearman(value: float | None) -> str:
    """A rank correlation, or that there is none."""
    return "undefined" if value is None else f"{value:.2f}"


def correlation(result: Mapping[str, Any]) -> str:
    """A `comparison.RankCorrelation` with its n."""
    return f"{spearman(result['spearman'])} (n = {result['n']})"


def si_count(value: int | float) -> str:
    """A count with three digits and an SI prefix: 1234567 -> 1.23 M."""
    for prefix in ("", "k", "M", "G", "T", "P", "E", "Z"):
        if abs(value) < 999.5:
            return f"{value:.3g} {prefix}".rstrip()
        value /= 1000
    return f"{value:.3g} Y"


def share(ratio: float) -> str:
    """A share in percent; "3.5 times" where it is 2 or more."""
    return f"{ratio:.1%}" if ratio < 1.995 else f"{ratio:.3g} times"


def share_of(ratio: float, what: str) -> str:
    """`12.0% of one run`, or `3.5 times one run`."""
    return f"{share(ratio)} {what}" if share(ratio).endswith("times") else f"{share(ratio)} of {what}"


def plural(count: int, noun: str) -> str:
    """`one seed`, `3 seeds`."""
    return f"{'one' if count == 1 else format(count, ',')} {noun}{'' if count == 1 else 's'}"


def listing(items: Iterable[str]) -> str:
    """`a, b and c`; nothing for no items."""
    *first, last = list(items) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def weights(arm: str, weight_of: Mapping[str, float], most: int = 8) -> str:
    """The largest weights of a mixture in a line, the rest counted."""
    used = sorted(((w, name) for name, w in weight_of.items() if w >= 0.0005), key=lambda item: (-item[0], item[1]))
    shown = ", ".join(f"{plain(name)} {weight:.3f}" for weight, name in used[:most])
    more = [f"{len(used) - most} more with {sum(w for w, _ in used[most:]):.3f} in all"] if len(used) > most else []
    unused = len(weight_of) - len(used)
    none = [f"less than 0.0005 for {plural(unused, 'other')}"] if unused else []
    return f"Weights of {code(arm)}: {'; '.join([shown, *more, *none])}."


def code(name: str) -> str:
    """A name in code type, inside tables too."""
    return "`" + name.replace("`", "'").replace("|", "\\|") + "`"


def plain(text: str) -> str:
    """Text from a data set, on one line and without effect as Markdown or HTML."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return "".join("\\" + char if char in "\\`*_[]|~$" else char for char in escaped)


def source_notes(notes: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of what `sources.toml` says: {source: {"licence", "note", "allowed"}}."""
    rows = [
        [code(name), plain(found["licence"] or ""), plain(found["note"] or ""), _ALLOWED[found["allowed"]]]
        for name, found in notes.items()
    ]
    return table(["source", "licence", "note", "allowed"], rows)


_ALLOWED = {True: "yes", False: "**no**: left out"}


def seed_noise(num_seeds: int, chance: float) -> str:
    """How far a verdict can be trusted; `chance` is `comparison.chance_of_false_verdict(num_seeds)`."""
    if num_seeds == 1:
        return "One seed: how far another training of the same arm would differ is not known."
    return (
        f"With {num_seeds} seeds two standard errors are crossed by chance in {chance:.0%} of the comparisons of equal "
        "arms."
    )


def skipped_steps(metrics: Mapping[str, Any]) -> list[str]:
    """A caveat on steps that trainings skipped; none where they stop instead, or where nobody counted."""
    if "skipped_steps" not in metrics:
        return []
    counts = [
        f"{count} of {code(model)} ({plain(stage)})"
        for stage, models in metrics["skipped_steps"].items()
        for model, count in models.items()
    ]
    return [
        "Steps whose loss or gradient was not finite were skipped"
        + (f": {', '.join(counts)}. These models saw less than the others." if counts else "; there were none.")
    ]


def provenance(made_by: Mapping[str, Any], time: str) -> str:
    """Command, device, commit and versions, as `experiments.harness.provenance` records them, and the time taken."""
    versions = ", ".join(f"{name} {version}" for name, version in made_by["versions"].items())
    return (
        f"    {made_by['command']}\n\n"
        f"Device: {made_by['device']}. Commit: {made_by['git_commit'] or 'unknown'}. Versions: {versions}. "
        f"Time: {time}. `metrics.json` holds every number above, the configuration and the hashes of the data."
    )
