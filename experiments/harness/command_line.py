"""From a typed config class to a command line: parse, run, and turn what a user can correct into one line."""

import argparse
import contextlib
import inspect
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import jax
import tyro
from tyro.constructors import PrimitiveConstructorSpec, PrimitiveTypeInfo

from experiments.harness.interruption import Interrupted
from experiments.harness.memory import out_of_memory
from experiments.harness.options import RunOptions
from experiments.harness.paths import REGISTRY, one_word
from experiments.harness.printing import printing
from experiments.harness.processes import joined, lost_process
from experiments.harness.provenance import main_module
from experiments.harness.result_files import NotRendered
from mixmin_jax.errors import InputError
from mixmin_jax.program_cache import cache_programs
from mixmin_jax.training.checkpoint import Stopped
from mixmin_jax.training.nonfinite import Diverged

Config = TypeVar("Config")


@REGISTRY.primitive_rule
def _number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[float] | None:
    """No option takes NaN, which passes every comparison with a bound, or infinity."""

    def parse(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise InputError(f"{text} is no finite number")
        return number

    return one_word("FLOAT", parse, (int, float)) if info.type is float else None


@REGISTRY.primitive_rule
def _text(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[str] | None:
    """No option takes empty text."""

    def parse(text: str) -> str:
        if not text:
            raise InputError("the text is empty, as that of a variable that is not set")
        return text

    return one_word("STR", parse, str) if info.type is str else None


def run(
    config_class: type[Config], main: Callable[[Config], None], presets: Mapping[str, Config] | None = None
) -> None:
    """Parse the command line into `config_class`, call `main` with it, and exit.

    `--help` shows the class's docstring and those of its fields; unknown options are refused (exit status 2).
    `InputError` and `OSError` become one line `error: ...` on stderr and exit status 2. A training that diverged, a
    report that cannot be rendered, and a lack of memory get such a line and status 1. Ctrl-C exits with 130, SIGTERM
    with 143. If one of several processes fails, it does not wait for the others; these end with status 1 and a line.

    A command with an option `out` does all of its work even if stdout is closed meanwhile, and then exits with 141.

    Args:
        config_class: a frozen dataclass; the defaults of its fields are the command line's.
        main: the experiment.
        presets: complete configs by name, for `--preset NAME`; the first is the default.
    """
    config = None
    try:
        config = parse(config_class, presets)
        with contextlib.ExitStack() as stack:
            # a command that writes no file has nothing to do once nobody reads what it prints
            stack.enter_context(printing(survives=getattr(config, "out", None) is not None))
            if isinstance(config, RunOptions):  # benchmarks are none of these: they time compilations
                cache_programs(warn=lambda line: print(line, file=sys.stderr))
                stack.enter_context(joined(config))
            main(config)
    except KeyboardInterrupt as error:
        _exit(128 + (error.number if isinstance(error, Interrupted) else signal.SIGINT))
    except Stopped:
        _exit(128 + signal.SIGTERM)
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (InputError, OSError, Diverged, NotRendered) as error:
        print(f"error: {error}", file=sys.stderr)
        _exit(1 if isinstance(error, RuntimeError) else 2)
    except Exception as error:
        if told := out_of_memory(error, config):
            print(f"error: {told}", file=sys.stderr)
            _exit(1)
        if not jax.distributed.is_initialized():
            raise
        if reason := lost_process(error):
            print(
                f"error: another process of this run has ended or cannot be reached ({reason}): see what it printed,"
                " then start all again with --resume",
                file=sys.stderr,
            )
        else:
            traceback.print_exc()
        _exit(1)


def _exit(status: int) -> NoReturn:
    """End the process. One of several leaves at once: JAX's own exit would wait for the others, which wait for it."""
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def parse(
    config_class: type[Config], presets: Mapping[str, Config] | None = None, arguments: Sequence[str] | None = None
) -> Config:
    """The config that `arguments` describe (default: the command line); other options override those of the preset."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    module = main_module()
    options: dict[str, Any] = {
        "prog": f"python -m {module}" if module else None,
        "config": (tyro.conf.FlagCreatePairsOff,),
        "registry": REGISTRY,
        "description": inspect.getdoc(config_class),
    }
    if presets:
        first = argparse.ArgumentParser(prog=options["prog"], add_help=False, allow_abbrev=False)
        first.add_argument("--preset", choices=list(presets), default=next(iter(presets)))
        chosen, arguments = first.parse_known_args(arguments)
        options["default"] = presets[chosen.preset]
        names = ", ".join(presets)
        options["description"] += (
            f"\n\n--preset NAME sets sizes and budgets ({names}; default {next(iter(presets))}); every option below"
            f" overrides its part. The defaults shown are those of {chosen.preset}."
        )
    return tyro.cli(config_class, args=arguments, **options)
