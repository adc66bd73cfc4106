"""Finds weights in a fresh process, and prints seconds (without imports) and memory: python -m ... FOLDER BUCKETS"""

import contextlib
import io
import json
import sys
import time
from pathlib import Path

from benchmarks.machine import peak_memory
from experiments.filter_and_mix.__main__ import main
from experiments.filter_and_mix.config import FilterAndMix

if __name__ == "__main__":
    folder, buckets = Path(sys.argv[1]), sys.argv[2]
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        main(
            FilterAndMix(
                sources=(str(folder / "sources"),),
                target=(str(folder / "target.jsonl"),),
                out=folder / "out",
                buckets=buckets,
                arms=("none",),
            )
        )
    print(json.dumps([time.perf_counter() - start, peak_memory()]))
