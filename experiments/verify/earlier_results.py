"""Result files of earlier versions: where they have what is now in `data_sets`, `identity` and `experiment`."""

import argparse
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mixmin_jax.data.files import list_folder
from mixmin_jax.data.images.folders import FOLDER_PREFIX
from mixmin_jax.data.text.documents import stem
from mixmin_jax.data.text.sources import SOURCE_NOTES
from mixmin_jax.data.tfds_builders import TFDS_PREFIX, default_name

Metrics = Mapping[str, Any]


def experiment_of(metrics: Metrics) -> str:
    """Which experiment wrote the file."""
    if "experiment" in metrics:
        return str(metrics["experiment"])
    if "spearman_by_num_runs" in metrics:
        return "regmix_published"
    return "weights_from_file" if {"unit", "mixmin", "arms"} <= set(metrics) else "something else"


def data_sets_of(metrics: Metrics) -> list[dict[str, Any]]:
    """The records of `experiments.harness.data_sets`, as far as the file has what is in them; `bytes` may be None.

    Empty where an earlier version did not say where the data are.
    """
    if "data_sets" in metrics:
        return list(metrics["data_sets"])
    found = {
        "text_mixture": _text,
        "molecule_mixture": _molecules,
        "image_mixtraining": _images,
        "weights_from_file": _log_likelihoods,
        "regmix_published": _published_runs,
    }.get(experiment_of(metrics))
    return found(metrics) if found else []


def identity_parts(held: Mapping[str, Any], metrics: Metrics) -> Iterator[tuple[str, Any, Any]]:
    """What config.json and a result file both hold: (name, there, here)."""
    options = held.get("options", held)
    for key in options:
        if key in metrics["config"] and not (isinstance(metrics["config"][key], dict) and key == "data"):
            yield key, options[key], metrics["config"][key]
    if "dataset" in metrics:
        yield "data", held["data"], metrics["dataset"]
    elif "table" in held:
        yield "table", held["table"], {key: metrics["data"][key] for key in held["table"]}
    elif "targets" in held and "sources" in metrics["data"]:
        yield "data", held["data"], {name: found["sha256"] for name, found in metrics["data"]["sources"].items()}
        yield "targets", held["targets"][metrics["target"]], metrics["data"]["target"]["sha256"]


def _record(
    role: str, name: str, place: str, reader: str, options: dict[str, Any], counts: dict[str, int], held: Metrics
) -> dict[str, Any]:
    return {"role": role, "name": name, "place": place, "reader": reader, "options": options, "counts": counts} | {
        "bytes": held.get("bytes"),
        "sha256": held["sha256"],
    }


def _text(metrics: Metrics) -> list[dict[str, Any]]:
    given = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    for name in ("--sources", "--target"):
        given.add_argument(name, nargs="*", default=[])
    given.add_argument("--field", default="text")
    options, _ = given.parse_known_args(shlex.split(metrics["command"]))
    target = metrics["data"]["target"]
    parts = [
        *(("source", name, held, options.sources) for name, held in metrics["data"]["sources"].items()),
        ("target", target["name"], target, options.target),
    ]
    return [
        _record(
            role,
            name,
            _place(name, specs),
            "text" if specs else "installed text",
            {"field": options.field} if specs else {},
            {"documents": held["documents"]},
            held,
        )
        for role, name, held, specs in parts
    ]


def _place(name: str, specs: list[str]) -> str:
    """Which of the paths and data sets, or of the files in a single folder, is the corpus `name`."""
    entries = [Path(spec) for spec in specs]
    if len(specs) == 1 and entries[0].is_dir():
        entries = [path for path in list_folder(entries[0]) if path.name != SOURCE_NOTES]
    names = {default_name(spec): spec for spec in specs if spec.startswith(TFDS_PREFIX)}
    names |= {stem(path): str(path) for path in entries if not str(path).startswith(TFDS_PREFIX)}
    return names.get(name, f"{specs[0]}/{name}" if specs else name)


def _molecules(metrics: Metrics) -> list[dict[str, Any]]:
    path, held = metrics["config"]["assays"], metrics["data"]
    place, reader = (held["table"], "bundled molecules") if path is None else (path, "file")
    counts = {"rows": held["rows"], "assays": held["assays"]}
    return [_record("assays", Path(place).name, place, reader, {}, counts, held)]


def _images(metrics: Metrics) -> list[dict[str, Any]]:
    data, spec, size = metrics["dataset"], metrics["config"]["dataset"], metrics["config"]["image_size"]
    hashes = data["fingerprint"].split("+")  # their first digits alone
    counts = {"train": data["train"] + data["validation"], "test": data["test"]}
    name = data["name"] if spec.startswith(FOLDER_PREFIX) else spec
    return [
        _record(
            f"images to {part} on",
            name,
            spec,
            "images",
            {"size": size, "part": part},
            {"images": counts[part]},
            {"sha256": sha256},
        )
        for part, sha256 in zip(("train", "test"), hashes, strict=True)
    ]


def _log_likelihoods(metrics: Metrics) -> list[dict[str, Any]]:
    given = metrics["config"]["log_likelihoods"]
    several = isinstance(given, list)
    files = zip(given, metrics["targets"], strict=True) if several else [(given, metrics)]
    return [
        _record(
            "log-likelihoods",
            Path(path).name,
            path,
            "file",
            {},
            {"examples": held["data"]["num_examples"], "sources": held["data"]["num_sources"]},
            held["data"],
        )
        for path, held in files
    ]


def _published_runs(metrics: Metrics) -> list[dict[str, Any]]:
    folder = Path(metrics["config"]["data"])
    return [
        _record("published runs", name, str(folder / name), "file", {}, {}, held)
        for name, held in metrics["data"].items()
    ]
