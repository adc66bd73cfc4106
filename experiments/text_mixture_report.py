"""Write the reports of `experiments.text_mixture` again; see `experiments.text_mixture.report_files`."""

from experiments.harness.command_line import run
from experiments.text_mixture.report_files import TextMixtureReport, main

if __name__ == "__main__":
    run(TextMixtureReport, main)
