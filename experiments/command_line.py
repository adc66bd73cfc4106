"""From a typed config class to a command line: parse, run, and turn what a user can correct into one line."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import tyro

from mixmin_jax.errors import InputError

Config = TypeVar("Config")


def run(
    config_class: type[Config], main: Callable[[Config], None], presets: Mapping[str, Config] | None = None
) -> None:
    """Parse the command line into `config_class`, call `main` with it, and exit.

    `--help` shows the class's docstring and those of its fields; unknown options are refused (exit status 2).
    `InputError` and `OSError` become one line `error: ...` on stderr and exit status 2; Ctrl-C exits with 130.

    Args:
        config_class: a frozen dataclass; the defaults of its fields are the command line's.
        main: the experiment.
        presets: complete configs by name: those that `--preset NAME` chooses among, the first being the default.
    """
    try:
        main(parse(config_class, presets))
    except KeyboardInterrupt:
        sys.exit(130)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def parse(
    config_class: type[Config], presets: Mapping[str, Config] | None = None, arguments: Sequence[str] | None = None
) -> Config:
    """The config that `arguments` (default: the command line's) describe; other options override the preset's."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    module = sys.modules["__main__"].__spec__
    prog = f"python -m {module.name}" if module else None
    options: dict[str, Any] = {"prog": prog, "config": (tyro.conf.FlagCreatePairsOff,), "args": arguments}
    if presets is None:
        return tyro.cli(config_class, **options)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default=next(iter(presets)))
    name = first.parse_known_args(arguments)[0].preset
    return tyro.cli(config_class, default=presets.get(name, next(iter(presets.values()))), **options)
