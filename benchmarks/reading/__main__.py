"""How fast are large sources read, and in how much memory? Beside plain decompression of the same files.

    python -m benchmarks.reading                                      # 10 GB of text, made on the spot
    python -m benchmarks.reading --quick                              # 100 MB, under a minute
    python -m benchmarks.reading --report benchmarks/results/reading-cpu-2-cores.json

Each call is a fresh process, whose import does not count: decompressing all files of a source by the library for them,
or reading them into a sample (`mixmin_jax.data.text.documents.read_corpus`). The two take turns. Then a dry run of
`experiments.text_mixture` on all sources, once with nothing kept from earlier and once more.
"""

import dataclasses

from benchmarks.options import Options
from benchmarks.reading.measure import measure
from benchmarks.reading.records import ReadingRecord, Settings
from benchmarks.reading.report import report, summary
from benchmarks.records import made_by, write_record, write_report
from experiments.harness.command_line import run
from mixmin_jax.data.text.stored_documents import IN_MEMORY

DISTRIBUTIONS = ("mixmin_jax", "jax", "numpy", "pyarrow", "zstandard", "msgspec")


@dataclasses.dataclass(frozen=True)
class Config(Options):
    """Times reading of made-up sources beside plain decompression: .jsonl.gz, .jsonl.zst, and .parquet with zstd.

    Writes reading-DEVICE.json and .md (reading-DEVICE-quick with --quick, reading-DEVICE-part for another size),
    replacing older ones. The whole run takes about ten minutes on two cores; let the machine do nothing else.
    Defaults: 3 repeats, a budget of 300 s; with --quick 2 and 20 s.
    """

    gigabytes: float | None = None
    """Of text in all; 10, and 0.1 with --quick. Shards are links to a few files, so the disk needs little of that."""

    source_bytes: int | None = None
    """What is kept of a source; 16 MB, as by default in a run."""

    def settings(self) -> Settings:
        """The options, with their defaults."""
        return self.fill(Settings(2, 20.0, 0.1, IN_MEMORY) if self.quick else Settings(3, 300.0, 10.0, IN_MEMORY))

    @property
    def is_whole(self) -> bool:
        """Whether the sources have their usual size."""
        return self.gigabytes is None and self.source_bytes is None


def main(config: Config) -> None:
    """Measure, print, write."""
    if config.report:
        return write_report(config.report, ReadingRecord, report)
    origin = made_by(*DISTRIBUTIONS)
    settings = config.settings()
    kinds, dry_run = measure(settings)
    record = ReadingRecord(made_by=origin, settings=settings, kinds=kinds, dry_run=dry_run)
    record = dataclasses.replace(record, summary=summary(record))
    write_record(config.stem("reading", config.is_whole), record, report)


if __name__ == "__main__":
    run(Config, main)
