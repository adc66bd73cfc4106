"""The experiments, a line each."""

from pathlib import Path

from experiments.harness.listing import print_commands

if __name__ == "__main__":
    print_commands(Path(__file__).parent)
