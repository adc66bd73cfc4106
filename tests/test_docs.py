"""The README and the pages are true: their Python runs, their tables are the results', what they name exists."""

import re
from pathlib import Path

import pytest

import mixmin_jax
from experiments.harness.listing import commands

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in (README, *sorted(ROOT.glob("docs/**/*.md")))}
SNIPPET = re.compile(r'^--8<-- "(\S+)"$', re.M)
PYTHON = [
    pytest.param(block, id=f"{name}-{number}")
    for name, page in PAGES.items()
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page, re.S))
    if "torch" not in block
]


@pytest.mark.parametrize("block", PYTHON)
def test_python_blocks_run(block):
    exec(compile(block, "a page", "exec"), {})


def test_the_readme_has_two_screens():
    assert len(README.read_text().splitlines()) <= 120


def test_the_table_of_the_readme_is_that_of_the_results():
    tables = re.findall(r"<!-- (\S+/results/\S+) -->\n(.*?)<!-- end -->", README.read_text(), re.S)
    assert [path.split("/")[2] for path, _ in tables] == ["text_mixture"]
    for path, table in tables:
        assert (ROOT / path).read_text().strip() == table.strip()


def test_tables_of_results_are_included_from_the_results():
    included = [path for page in PAGES.values() for path in SNIPPET.findall(page)]
    assert {path.split("/")[2] for path in included if path.startswith("experiments/results/")} >= {
        "text_mixture", "image_mixtraining", "image_mixtraining_variants", "text_mixtraining",
        "molecule_mixture_logistic",
    }  # fmt: skip
    assert {Path(path).name.split("-")[0] for path in included if path.startswith("benchmarks/results/")} == {
        "fidelity", "solver", "mixtraining", "proxies", "reading", "many_sources",
    }  # fmt: skip
    assert not [path for path in included if not (ROOT / path).is_file()]


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("docs/results/") and "index" not in name])
def test_decimals_on_a_page_of_results_stand_in_a_file_of_results(name):
    page = PAGES[name]
    linked = [(ROOT / name).parent / link for link in re.findall(r"\]\((\S+/results/\S+\.(?:md|json))\)", page)]
    files = [*linked, *(ROOT / path for path in SNIPPET.findall(page))]
    known = "\n".join(path.read_text() for path in files)
    prose = re.sub(r"^ {4}.*$|`[^`]*`|arXiv:\S+|\]\([^)]*\)", "", page, flags=re.M)  # no commands, code, links
    assert not [number for number in re.findall(r"\d+\.\d+", prose) if number not in known]


def test_linked_files_exist():
    links = [
        (ROOT / name, link) for name, page in PAGES.items() for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page)
    ]
    assert links and not [(page.name, found) for page, found in links if not (page.parent / found).exists()]


def test_commands_on_pages_are_those_that_are_listed():
    named = set(re.findall(r"python -m ((?:experiments|benchmarks)\.[a-z]\w+)", "\n".join(PAGES.values())))
    assert {"experiments.text_mixture", "experiments.image_mixtraining", "experiments.verify"} <= named
    benchmarks = commands(ROOT / "benchmarks").keys()
    assert benchmarks == {
        "benchmarks.fidelity", "benchmarks.solver", "benchmarks.proxies", "benchmarks.mixtraining",
        "benchmarks.reading", "benchmarks.many_sources",
    }  # fmt: skip
    assert named <= benchmarks | commands(ROOT / "experiments").keys()


def test_tests_named_on_pages_exist():
    named = {name for page in PAGES.values() for name in re.findall(r"`(?:tests/\S*)?(test_\w+\.py)`", page)}
    assert len(named) > 20 and named <= {path.name for path in ROOT.glob("tests/**/*.py")}


def test_every_public_name_is_on_a_page_of_the_api():
    named = set(re.findall(r"^::: (\S+)$", "\n".join(PAGES.values()), re.M))
    public = re.findall(r"^from (\S+) import (\w+) as \2$", Path(mixmin_jax.__file__).read_text(), re.M)
    assert len(public) > 15
    modules = {"mixtraining", "schedule"}
    assert {f"{home if name in modules else 'mixmin_jax'}.{name}" for home, name in public} <= named
