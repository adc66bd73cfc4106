"""What do many buckets cost? Time and memory of finding weights for 10, 100 and 1000 of them, end to end.

    python -m benchmarks.many_sources                     # a quarter of an hour on two cores
    python -m benchmarks.many_sources --quick             # 10 and 30 buckets, under a minute
    python -m benchmarks.many_sources --report benchmarks/results/many_sources-cpu-2-cores.json

Each size is one `experiments.filter_and_mix --arms none` in a fresh process: reading, quality, n-grams of every bucket,
the strength of the prior, the solve, the short list, intervals, what is in the text, the report.
"""

import dataclasses

from benchmarks.many_sources.measure import measure
from benchmarks.many_sources.records import ManySourcesRecord, Settings
from benchmarks.many_sources.report import report, summary
from benchmarks.options import Options
from benchmarks.records import made_by, write_record, write_report
from experiments.harness.command_line import run
from mixmin_jax.errors import InputError

DISTRIBUTIONS = ("mixmin_jax", "jax", "numpy", "scipy", "scikit-learn")


@dataclasses.dataclass(frozen=True)
class Config(Options):
    """Times the search for the weights of many buckets of made-up text, once each.

    Writes many_sources-DEVICE.json and .md (-quick with --quick, -part for other sizes), replacing older ones.
    """

    buckets: tuple[int, ...] | None = None
    """Numbers of buckets; 10 100 1000, and 10 30 with --quick."""

    bucket_bytes: int | None = None
    """Of text in each; 200 kB, and 50 kB with --quick."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.repeats is not None or self.budget is not None:
            raise InputError("every size is measured once: leave out --repeats and --budget")

    def settings(self) -> Settings:
        """The options, with their defaults."""
        return self.fill(Settings((10, 30), 50_000) if self.quick else Settings((10, 100, 1000), 200_000))

    @property
    def is_whole(self) -> bool:
        """Whether the sizes are the usual ones."""
        return self.buckets is None and self.bucket_bytes is None


def main(config: Config) -> None:
    """Measure, print, write."""
    if config.report:
        return write_report(config.report, ManySourcesRecord, report)
    origin = made_by(*DISTRIBUTIONS)
    settings = config.settings()
    record = ManySourcesRecord(made_by=origin, settings=settings, cases=measure(settings))
    record = dataclasses.replace(record, summary=summary(record))
    write_record(config.stem("many_sources", config.is_whole), record, report)


if __name__ == "__main__":
    run(Config, main)
