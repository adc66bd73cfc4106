"""The page that shows one mixture in all trainers' words shows what is written today."""

import re
from pathlib import Path

import pytest

from mixmin_jax import export_mixture, token_mixture
from mixmin_jax.export.formats import FORMATS

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
MIXTURE = token_mixture({"web": 0.5, "code": 0.3, "math": 0.2}, tokens_per_row={"web": 900, "code": 2500, "math": 300})


@pytest.mark.parametrize("to", FORMATS)
def test_the_page_shows_what_is_written(to):
    text = export_mixture(MIXTURE, to, draws=FORMATS[to].usually or "documents")
    code = re.sub(r"\A(# .*\n)*", "", text)
    shown = re.search(rf"^### {to}\n\n```\w+\n(.*?)^```$", PAGE, re.M | re.S)
    assert shown and shown[1] == code


@pytest.mark.parametrize("to", FORMATS)
def test_the_table_says_what_a_trainer_draws(to):
    row = re.search(rf"^\| `{to}` \| (\w+) \|", PAGE, re.M)
    assert row and row[1] == (FORMATS[to].usually or "either")
