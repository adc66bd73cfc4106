"""The README is true: its Python runs, its table is the one in the results, its files exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = README, *((ROOT / f"mixmin_jax/{part}/README.md").read_text() for part in ("mixture", "training"))
PYTHON = [block for page in PAGES for block in re.findall(r"```python\n(.*?)```", page, re.S) if "torch" not in block]


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_python_blocks_run(block):
    exec(compile(block, "README.md", "exec"), {})


def test_the_result_tables_are_those_of_the_results():
    tables = re.findall(r"<!-- (\S+/results/\S+) -->\n(.*?)<!-- end -->", README, re.S)
    assert [path.split("/")[2] for path, _ in tables[:2]] == ["text_mixture", "image_mixtraining"] and len(tables) >= 3
    for path, table in tables:
        assert (ROOT / path).read_text().strip() == table.strip()


def test_linked_files_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links and not [link for link in links if not (ROOT / link).exists()]


def test_modules_named_in_commands_exist():
    modules = set(re.findall(r"python -m (experiments\.\w+|benchmarks\.\w+)", README))
    assert "experiments.text_mixture" in modules
    places = {name: ROOT / name.replace(".", "/") for name in modules}
    assert not [
        name
        for name, place in places.items()
        if not (place.with_suffix(".py").exists() or (place / "__main__.py").exists())
    ]
