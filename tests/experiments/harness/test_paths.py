import ast
import dataclasses
import re
from pathlib import Path

import pytest

import experiments
from experiments.harness.command_line import parse
from experiments.harness.paths import Place

NAMES = {  # options that are text and name nothing on this machine
    *("arm", "axes", "buckets", "field", "groups", "ignore", "keep", "label_column", "labels", "length_column"),
    *("lower_bounds", "max_share", "min_share", "path", "prior", "quality_field", "reference_arm", "rows"),
    *("smiles_column", "tokens_per_row", "train", "tuning", "upper_bounds"),
}


@dataclasses.dataclass(frozen=True)
class Example:
    """An option of each shape."""

    out: Path = Path("out")
    maybe: Path | None = None
    paths: tuple[Path, ...] = ()
    place: Place = "digits"
    places: tuple[Place, ...] = ()
    pairs: tuple[tuple[Place, str], ...] = ()
    text: str = ""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return str(tmp_path)


def test_a_tilde_is_the_home_in_every_path_and_in_nothing_else(home):
    given = ["--out=~/res", "--maybe", "~", "--paths", "~/a", "b/~c", "--place", "folder:~/d", "--text", "~/e"]
    config = parse(Example, None, [*given, "--places", "~/f", "n=~/g", "https://x/~h", "--pairs", "~/i", "~/j"])
    assert config == Example(
        out=Path(home, "res"),
        maybe=Path(home),
        paths=(Path(home, "a"), Path("b/~c")),
        place=f"folder:{home}/d",
        places=(f"{home}/f", f"n={home}/g", "https://x/~h"),
        pairs=((f"{home}/i", "~/j"),),
        text="~/e",
    )
    assert parse(Example, None, []) == Example()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("gs://bucket/x", "no path of this machine: mount the bucket"),
        ("file:///x", "no path of this machine"),
        ("~nobody-of-that-name/x", "there is no such user"),
        ("", "the path is empty"),
        ("$HOME/x", "a variable that no shell has put in"),
        ("${OUT}", "a variable that no shell has put in"),
    ],
)
def test_what_is_no_path_here_is_refused_with_the_option(capsys, given, why):
    with pytest.raises(SystemExit) as stopped:
        parse(Example, None, [f"--out={given}"])
    error = " ".join(capsys.readouterr().err.replace("│", "").split())
    assert stopped.value.code == 2 and "--out" in error and why in error


def test_every_text_option_of_every_experiment_is_a_place_or_a_known_name():
    """So that no option for a file is added in which `~` is a folder."""
    found = set()
    for path in Path(experiments.__file__).parent.glob("**/config.py"):
        classes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
        fields = [node for one in classes for node in one.body if isinstance(node, ast.AnnAssign)]
        texts = {ast.unparse(node.target) for node in fields if re.search(r"\bstr\b", ast.unparse(node.annotation))}
        found |= texts - ({"target"} if path.parent.name == "molecule_mixture" else set())  # columns
    assert "field" in found and found <= NAMES
