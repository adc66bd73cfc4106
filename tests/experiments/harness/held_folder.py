"""Another process that holds a folder for results."""

import contextlib
import multiprocessing
import os


def _hold(claim, started, end):
    with claim():
        started.set()
        end.wait(60)


@contextlib.contextmanager
def held_elsewhere(claim, how_it_ends):
    """A process inside of `claim()`: its id, and what ends it, by the signal `how_it_ends` or in order (None)."""
    spawn = multiprocessing.get_context("spawn")
    started, end = spawn.Event(), spawn.Event()
    process = spawn.Process(target=_hold, args=(claim, started, end))
    process.start()

    def finish():
        if how_it_ends is None:
            end.set()
        else:
            os.kill(process.pid, how_it_ends)
        process.join(60)

    try:
        assert started.wait(60)
        yield process.pid, finish
    finally:
        process.kill()
        process.join()
        process.close()
