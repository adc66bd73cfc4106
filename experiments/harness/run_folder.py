"""The folder of a run: which run it holds, whether that is complete, and how to resume it. One process writes there."""

import contextlib
import json
import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from experiments.harness.folder_lock import LOCK, locked
from experiments.harness.interruption import Interrupted, Interruption
from experiments.harness.options import RunOptions
from experiments.harness.processes import check_same, is_first, several, together
from experiments.harness.progress import RunProgress
from experiments.harness.provenance import command_words
from experiments.harness.replacement import UNFINISHED, delete, put_in_place, remove_results
from experiments.harness.result_files import PARTIAL, write_json
from experiments.harness.stages import FORMAT, Stages
from experiments.reporting.json_files import read_json
from experiments.reporting.schema import MadeBy
from mixmin_jax.errors import InputError
from mixmin_jax.training.checkpoint import Stopped
from mixmin_jax.training.nonfinite import Diverged

STAGES, CONFIG, STATUS = "stages", "config.json", "status.json"
PREVIOUS = "previous"  # folder of the results that --extend set aside: 1, 2, ..., each like a run's folder


class RunFolder(NamedTuple):
    """A claimed folder: `folder.stages(...)` keeps products there and stops in order when told to."""

    stages: Callable[[RunProgress, MadeBy], Stages]
    place: Path  # where the run writes its results: the folder, or one in it while whole results are there


@contextlib.contextmanager
def run_folder(
    options: RunOptions,
    config: Mapping[str, Any],
    results: Sequence[str],
    *,
    extends: Collection[str] = (),
    extend: bool = False,
) -> Iterator[RunFolder]:
    """Claim `options.out` for the run that `config` describes, and hold it while the run goes on.

    A new or empty folder starts a run. A folder with the same run is accepted if that is complete, or with --resume.
    `config.json` there identifies the run; `status.json` says whether it is complete, and if not, how to resume it.
    With --overwrite this run's results replace another's `results` (patterns of files in the folder); stages stay.
    Results that are there stay, whole, until this run is complete: until then its own are in `RunFolder.place`.
    With `extend` a run that differs only in the entries `extends` of `config` is taken over: its results are moved to
    `previous/1`, `previous/2`, ..., with the `config.json` and `status.json` that they belong to; its stages stay.

    Of several processes the first claims the folder for all. A signal then waits for the end of a stage, or of a block
    of a training, so that all stop at the same place.

    Raises:
        InputError: the folder holds another run (the message says what differs), an unfinished one without --resume,
            or something else, or another run is writing to it. Nothing was changed.
    """
    out, new = options.out, json.loads(json.dumps(config))
    spread = [getattr(options, name, None) for name in ("mesh_source", "mesh_data", "tokens_on")]
    check_same([str(out.absolute()), options.resume, options.overwrite, options.checkpoint_every, spread, new])
    with contextlib.ExitStack() as held:
        interruption = held.enter_context(Interruption())
        with together():
            if is_first():
                held.enter_context(_claimed(options, new, results, extends, extend))
        place = out / UNFINISHED if (out / UNFINISHED / CONFIG).exists() else out
        if several():
            held.enter_context(interruption.deferred())
        try:
            every = options.checkpoint_every
            yield RunFolder(partial(Stages, out / STAGES, checkpoint_every=every, interruption=interruption), place)
        except BaseException as error:
            why = f"{error}: " if isinstance(error, (Interrupted, Stopped)) else ""
            how, again = how_to_go_on(), ""
            if isinstance(error, Diverged):
                skip = "" if options.on_nonfinite == "skip" else " or --on-nonfinite skip"
                how = f"another learning rate{skip}, and either --overwrite, which keeps the stages that this does not"
                how += " change, or another --out"
                again = " The same command fails at the same step again, with --resume as well."
                with contextlib.suppress(OSError):  # report what ended the run, not this
                    _write_status(place, complete=False, how=how)
            if is_first():
                kept = out if place == out else f"{place}, and the results that were in {out} are still there"
                print(f"{why}incomplete; what is finished is kept in {kept}.{again} Go on with: {how}", file=sys.stderr)
            raise
        with interruption.deferred():
            _write_status(place, complete=True)
            if is_first() and place != out:
                _replace_results(out, new, results)


@contextlib.contextmanager
def _claimed(
    options: RunOptions, new: Mapping[str, Any], results: Sequence[str], extends: Collection[str], extend: bool
) -> Iterator[None]:
    """The folder, locked, with the run's configuration and status in it."""
    out = options.out
    with locked(out, options.no_locks):
        place = out
        if extend and extended(out, new, extends) != new:
            _set_aside(out, results)
        elif _holds_results(options, new, extends):
            place = out / UNFINISHED
        for left in [*out.rglob(f".*{PARTIAL}")]:  # by a process that was killed while it wrote a file
            delete(left)
        if place == out or not _is_of(place, new):
            delete(out / UNFINISHED)
        place.mkdir(exist_ok=True)
        write_json(place / CONFIG, {"format": FORMAT, **new})
        _write_status(place, complete=False)
        if place != out and not _is_of(out, new):
            print(f"what is in {out} stays until this run is complete; its results wait in {place}", file=sys.stderr)
        yield


def identity_of(out: Path) -> dict[str, Any]:
    """What `config.json` in the folder of a run says: everything that determines its results.

    Raises InputError, naming the file, if it cannot be read, or if another version began the run.
    """
    path = out / CONFIG
    held = read_json(path)
    if not isinstance(held, dict):
        raise InputError(f"{path} cannot be read (it holds no JSON object but {type(held).__name__})")
    if held.pop("format", 1) != FORMAT:
        raise InputError(f"{path} is of a run that another version began, with stages that this one cannot use")
    return held


def how_to_go_on() -> str:
    """The command line that resumes this run."""
    words = [word for word in command_words() if word not in ("--overwrite", "--resume")]
    return shlex.join([*words, "--resume"])


def _holds_results(options: RunOptions, new: Mapping[str, Any], extends: Collection[str]) -> bool:
    """Whether the folder holds what stays until this run is complete: another run, or this one, complete.

    Raises InputError if this run may not use the folder.
    """
    out = options.out
    waits = _is_of(out / UNFINISHED, new)
    replaces = options.overwrite or (options.resume and waits)
    if not (out / CONFIG).exists():
        # a run that was killed may have left files that it writes before it has claimed the folder
        content = [path for path in out.iterdir() if path.name != LOCK and not path.name.endswith(PARTIAL)]
        if content and not replaces:
            if waits:
                raise _unfinished(out)
            raise InputError(
                f"--out {out} is not empty and holds no run of this experiment: name another, or add --overwrite"
            )
        return bool(content)
    try:
        held = identity_of(out)
    except InputError as error:
        if replaces:
            return True
        raise InputError(f"{error}: name another --out, or add --overwrite") from error
    differences = _differences(held, new)
    if differences and waits and not replaces:
        raise _unfinished(out)
    if differences and not replaces:
        also = "" if _differences(*_fixed(held, new, extends)) else ", or --extend to go on with that run"
        raise InputError(
            f"--out {out} already holds the results of another run, which differs in: {'; '.join(differences)}."
            f" Name another --out, or add --overwrite to replace them{also}"
        )
    complete = _is_complete(out)
    if not (options.resume or options.overwrite or complete):
        raise _unfinished(out)
    return bool(differences) or complete


def _unfinished(out: Path) -> InputError:
    return InputError(f"--out {out} holds this run, unfinished: add --resume to go on with it, or name another")


def extended(out: Path, new: Mapping[str, Any], extends: Collection[str]) -> dict[str, Any]:
    """What identifies the run in the folder that is to be extended to the run `new`.

    Raises InputError if there is none, or if it differs in more than the entries `extends`.
    """
    if not (out / CONFIG).exists():
        raise InputError(f"--extend: --out {out} holds no run yet; leave out --extend to begin one there")
    held = identity_of(out)
    if differences := _differences(*_fixed(held, new, extends)):
        raise InputError(
            f"--extend goes on with the settings of the run in --out {out}, which differs in: {'; '.join(differences)}."
            " Give the settings of that run, or name another --out"
        )
    return held


def _fixed(
    held: Mapping[str, Any], new: Mapping[str, Any], extends: Collection[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What two runs must have in common, if one is to extend the other."""
    before, now = ({key: value for key, value in one.items() if key not in extends} for one in (held, new))
    return before, now


def last_previous(out: Path) -> Path | None:
    """The folder of the results that were set aside last."""
    numbers = [int(path.parent.name) for path in (out / PREVIOUS).glob(f"*/{CONFIG}") if path.parent.name.isdecimal()]
    return out / PREVIOUS / str(max(numbers)) if numbers else None


def _set_aside(out: Path, results: Sequence[str]) -> None:
    """Move the results of the run to a folder in `previous`; it has a `config.json` when it is whole."""
    last = last_previous(out)
    place = out / PREVIOUS / str(int(last.name) + 1 if last else 1)
    files = [path for pattern in results for path in out.glob(pattern)]
    for path in files:
        to = place / path.relative_to(out)
        to.parent.mkdir(parents=True, exist_ok=True)
        path.replace(to)
        if path.parent != out and not any(path.parent.iterdir()):
            path.parent.rmdir()
    if place.exists():  # also where an earlier attempt was killed
        for name in (STATUS, CONFIG):
            shutil.copy(out / name, place)


def _replace_results(out: Path, new: Mapping[str, Any], results: Sequence[str]) -> None:
    """Put the results of the run `new` in place; those of another run, and of runs before that, are removed.

    If it is killed meanwhile, the run is unfinished, and --resume goes on.
    """
    if (out / CONFIG).exists() and not _is_of(out, new):
        _write_status(out, complete=False)
        remove_results(out, results)
        delete(out / PREVIOUS)
    put_in_place(out, last=(CONFIG, STATUS))


def _is_of(folder: Path, new: Mapping[str, Any]) -> bool:
    """Whether a folder is of the run `new`."""
    try:
        return identity_of(folder) == new
    except InputError:
        return False


def _is_complete(out: Path) -> bool:
    try:
        return bool(read_json(out / STATUS) == {"complete": True})
    except InputError:
        return False


def _write_status(out: Path, complete: bool, how: str = "") -> None:
    write_json(out / STATUS, {"complete": complete} | ({} if complete else {"how_to_go_on": how or how_to_go_on()}))


def _differences(held: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(held, dict) and isinstance(new, dict):
        keys = sorted({*held, *new})
        return [line for key in keys for line in _differences(held.get(key), new.get(key), f"{path}.{key}".lstrip("."))]
    return [] if held == new else [f"{path} ({held!r:.60} there, {new!r:.60} now)"]
