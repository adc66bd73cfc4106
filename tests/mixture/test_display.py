"""What a prompt and a notebook show of a solution and of a bootstrap."""

import dataclasses
from html.parser import HTMLParser

import jax
import numpy as np
import pytest

from mixmin_jax import bootstrap, cross_entropy, solve
from tests.mixture.problems import PRIOR, K, classifiers

NAMES = ("<script>alert('1')</script>", "$a$ & b", "Größe Ж", "two\nlines", "x" * 30 + "y" * 30, "f")
OBJECTIVE = cross_entropy(classifiers(), sources=NAMES)


class Cells(HTMLParser):
    """The rows of the tables of a page, and all of its tags."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.tags = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data):
        if self.rows:
            self.rows[-1].append(data)


@pytest.fixture(scope="module")
def solution():
    return solve(OBJECTIVE)


def spread(solution, weights, sources=None):
    return dataclasses.replace(solution, weights=np.array(weights), sources=sources)


def test_a_solution_is_two_lines(solution):
    first, second = repr(spread(solution, [0.1, 0.2, 0.7, 0], ("a", "b", "c", "d"))).splitlines()
    assert first == f"Solution: {solution.status}" and "array" not in second
    assert second == f"loss {solution.loss:.6g}; weights: c: 0.7, b: 0.2, a: 0.1, ... and 1 more without weight"
    text = repr(spread(solution, [0, 0.1, 0.1, 0.4, 0.3, 0.1], NAMES))
    assert (
        r"; weights: 'two\nlines': 0.4, " + "x" * 18 + "..." + "y" * 19 + ": 0.3, $a$ & b: 0.1, Größe Ж: 0.1, f" in text
    )


def test_sources_that_are_not_listed_are_counted(solution):
    many = np.where(np.arange(500) < 7, 1 / 7, 1e-17)
    text = repr(spread(solution, many))
    assert len(text) < 400 and text.endswith("column 4: 0.143, ... and 495 more with a total weight of 0.29")
    page = Cells(spread(solution, many)._repr_html_())
    assert len(page.rows) == 22 and page.rows[-1] == ["and 480 more without weight"]
    assert repr(spread(solution, [1.0])).endswith("; weights: column 0: 1")
    assert Cells(spread(solution, [1.0])._repr_html_()).rows[1:] == [["column 0", "1"]]


def test_names_cannot_become_html(solution):
    page = Cells(solution._repr_html_())
    assert set(page.tags) <= {"div", "p", "table", "thead", "tbody", "tr", "th", "td"}
    assert {row[0] for row in page.rows} >= {NAMES[0], NAMES[1], NAMES[2], r"'two\nlines'"}
    assert "mathjax_ignore" in solution._repr_html_()


def test_the_gap_is_told_in_words(solution):
    assert f"better than this one by more than {solution.gap:.2g}, in the units of the loss." in solution._repr_html_()
    with_prior = solve(OBJECTIVE, prior=PRIOR, prior_strength=0.05)
    assert f" + penalty {with_prior.penalty:.3g}; weights" in repr(with_prior)
    assert "in the units of loss + penalty." in with_prior._repr_html_()
    assert "Not known" in dataclasses.replace(solution, gap=float("inf"))._repr_html_()
    assert "more than 0," in dataclasses.replace(solution, gap=-1e-17)._repr_html_()


def test_a_missed_goal_stands_out(solution):
    missed = solve(OBJECTIVE, method="mirror_descent", max_iterations=1, throw=False)
    assert "<strong>not converged: " in missed._repr_html_() and "Solution: not converged" in repr(missed)
    assert "<strong>" not in solution._repr_html_()


def test_a_bootstrap_has_intervals():
    found = bootstrap(OBJECTIVE, 20, jax.random.key(0), reference=np.full(K, 1 / K), level=0.9)
    best = int(found.solution.weights.argmax())
    low, high = f"{found.lower[best]:.3g}", f"{found.upper[best]:.3g}"
    first, second, third = repr(found).splitlines()
    assert first == f"Bootstrap: {found.status}" and third.endswith(found.comparison.status)
    assert second.startswith("weights with 90 % intervals: ") and f" ({low} to {high}), " in second
    page = Cells(found._repr_html_())
    assert page.rows[0] == ["source", "weight", "90 % interval"]
    assert page.rows[1][1:] == [f"{found.solution.weights[best]:.3g}", f"{low} to {high}"]
    assert f"margin-left:{100 * found.lower[best]:.1f}%" in found._repr_html_()
    failed = dataclasses.replace(found, converged=np.arange(20) > 0, status="1 of 20 did not", comparison=None)
    assert "<strong>1 of 20 did not</strong>" in failed._repr_html_() and len(repr(failed).splitlines()) == 2
    # a source without weight on the data, with weight on some resamples, is no source without weight
    sparse = dataclasses.replace(found, solution=spread(found.solution, [1.0, 0, 0]), sources=None)
    sparse = dataclasses.replace(sparse, lower=np.array([0.8, 0, 0]), upper=np.array([1.0, 1e-17, 0.2]))
    assert repr(sparse).splitlines()[1].endswith("column 2: 0 (0 to 0.2), ... and 1 more without weight")
