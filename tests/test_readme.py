"""The README is true: its Python runs, its table is the one in the results, its files exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PYTHON = [block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "torch" not in block]


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_python_blocks_run(block):
    exec(compile(block, "README.md", "exec"), {})


def test_the_result_table_is_that_of_the_results():
    table = re.search(r"<!-- (experiments/results/\S+) -->\n(.*?)<!-- end -->", README, re.S)
    assert table and (ROOT / table[1]).read_text().strip() == table[2].strip()


def test_linked_files_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links and not [link for link in links if not (ROOT / link).exists()]


def test_modules_named_in_commands_exist():
    modules = set(re.findall(r"python -m (experiments\.\w+|benchmarks\.\w+)", README))
    assert "experiments.text_mixture" in modules
    assert not [name for name in modules if not (ROOT / f"{name.replace('.', '/')}.py").exists()]
