import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mixmin_jax.data.molecules.splits import make_folds, split_molecules
from mixmin_jax.errors import InputError

SEEDS = st.integers(0, 100)
FRACTIONS = st.sampled_from([0.1, 0.2, 0.35, 0.5])
# a few frequent scaffolds and many rare ones, as in real tables
SCAFFOLDS = st.lists(st.integers(0, 3) | st.integers(0, 60), min_size=2, max_size=120).map(np.array)


def sides(scaffold_N, test_N):
    return set(scaffold_N[test_N].tolist()), set(scaffold_N[~test_N].tolist())


@settings(deadline=None)  # the machine may be busy
@given(scaffold_N=SCAFFOLDS, fraction=FRACTIONS, seed=SEEDS)
def test_a_scaffold_split_keeps_scaffolds_whole_and_the_share(scaffold_N, fraction, seed):
    wanted = max(round(fraction * len(scaffold_N)), 1)
    try:
        test_N = split_molecules("scaffold", scaffold_N, fraction, seed)
    except InputError:  # right only if the scaffolds that may be tested are too few
        counts = np.bincount(scaffold_N)
        assert counts[counts <= max(wanted / 2, 1)].sum() < wanted / 2
        return
    in_test, in_train = sides(scaffold_N, test_N)
    assert not in_test & in_train and in_train
    sizes = np.bincount(scaffold_N)
    assert wanted / 2 <= test_N.sum() <= wanted
    assert all(sizes[one] <= max(wanted / 2, 1) for one in in_test)
    room = wanted - test_N.sum()
    assert all(sizes[one] > min(room, max(wanted / 2, 1)) for one in in_train)  # nothing more would have fitted


@settings(deadline=None)
@given(scaffold_N=SCAFFOLDS, fraction=FRACTIONS, seed=SEEDS, order_seed=SEEDS)
def test_the_order_of_molecules_does_not_matter_to_a_scaffold_split(scaffold_N, fraction, seed, order_seed):
    order_N = np.random.default_rng(order_seed).permutation(len(scaffold_N))
    try:
        test_N = split_molecules("scaffold", scaffold_N, fraction, seed)
    except InputError:
        assume(False)
    np.testing.assert_array_equal(split_molecules("scaffold", scaffold_N[order_N], fraction, seed), test_N[order_N])


@settings(deadline=None)
@given(num=st.integers(2, 200), fraction=FRACTIONS, seed=SEEDS)
def test_a_random_split_takes_the_exact_number(num, fraction, seed):
    test_N = split_molecules("random", np.zeros(num, int), fraction, seed)
    assert test_N.sum() == max(round(fraction * num), 1)
    np.testing.assert_array_equal(split_molecules("random", np.arange(num), fraction, seed), test_N)


@pytest.mark.parametrize("kind", ["random", "scaffold"])
def test_seeds_draw_other_molecules_and_every_molecule_has_its_turn(kind):
    tests = np.array([split_molecules(kind, np.arange(200) // 2, 0.2, seed) for seed in range(60)])
    assert len({test_N.tobytes() for test_N in tests}) == 60
    often_N = tests.sum(0)  # binomial around 12 with a spread of 3.1
    assert often_N.min() >= 1 and often_N.max() <= 28


# --------------------------------------------------------------------------------------------------------- folds


@settings(deadline=None)
@given(scaffold_N=SCAFFOLDS, num_folds=st.integers(2, 5), seed=SEEDS)
def test_folds_by_scaffold_are_whole_and_as_even_as_their_last_scaffold_allows(scaffold_N, num_folds, seed):
    train_N = np.random.default_rng(seed).random(len(scaffold_N)) < 0.8
    assume(len(set(scaffold_N[train_N].tolist())) >= num_folds)
    fold_N = make_folds(train_N, scaffold_N, num_folds, seed)
    np.testing.assert_array_equal(fold_N < 0, ~train_N)
    counts = np.bincount(fold_N[train_N], minlength=num_folds)
    assert counts.min() > 0 and len(counts) == num_folds
    for fold in range(num_folds):
        own = scaffold_N[fold_N == fold]
        assert not set(own.tolist()) & set(scaffold_N[train_N & (fold_N != fold)].tolist())
        sizes = np.unique(own, return_counts=True)[1]
        assert counts[fold] - sizes.min() <= counts.min()
    order_N = np.random.default_rng(seed + 1).permutation(len(scaffold_N))
    np.testing.assert_array_equal(
        make_folds(train_N[order_N], scaffold_N[order_N], num_folds, seed), fold_N[order_N]
    )  # the order of molecules does not matter


@settings(deadline=None, max_examples=25)
@given(scaffold_N=SCAFFOLDS, num_folds=st.integers(2, 5), seed=SEEDS)
def test_folds_that_spread_rare_molecules_keep_scaffolds_whole_and_differ_by_one_scaffold(scaffold_N, num_folds, seed):
    rng = np.random.default_rng(seed)
    train_N, rare_NxA = rng.random(len(scaffold_N)) < 0.8, rng.random((len(scaffold_N), 2)) < [0.1, 0.5]
    assume(len(set(scaffold_N[train_N].tolist())) >= num_folds and rare_NxA[train_N].any(0).all())
    fold_N = make_folds(train_N, scaffold_N, num_folds, seed, rare_NxA)
    np.testing.assert_array_equal(fold_N < 0, ~train_N)
    assert all(len(set(fold_N[train_N & (scaffold_N == one)].tolist())) < 2 for one in scaffold_N)
    rarest_N = train_N & rare_NxA[:, rare_NxA[train_N].sum(0).argmin()]
    counts = np.bincount(fold_N[rarest_N], minlength=num_folds)
    assert np.ptp(counts) <= np.bincount(scaffold_N[rarest_N]).max()
    order_N = rng.permutation(len(scaffold_N))
    moved_N = make_folds(train_N[order_N], scaffold_N[order_N], num_folds, seed, rare_NxA[order_N])
    np.testing.assert_array_equal(moved_N, fold_N[order_N])


@pytest.mark.parametrize("grouped", [True, False])
def test_every_part_has_its_share_of_every_assay_s_few_positives(grouped):
    """Twelve positives of 1000 molecules in each of 17 assays, in scaffolds of 1, 2, 3 and 4 molecules."""
    scaffold_N, rare_NxA = np.repeat(np.arange(400), np.tile([1, 2, 3, 4], 100)), np.zeros((1000, 17), bool)
    firsts = np.unique(scaffold_N, return_index=True)[1]
    for assay in range(17):
        rare_NxA[np.random.default_rng(assay).choice(firsts, 12, replace=False), assay] = True
    for seed in range(3):
        test_N = split_molecules("scaffold" if grouped else "random", scaffold_N, 0.2, seed, rare_NxA)
        tested_A = rare_NxA[test_N].sum(0)
        assert test_N.sum() == 200 and set(tested_A.tolist()) <= {3, 4}  # ceil(12 / 5), one more by others
        fold_N = make_folds(~test_N, scaffold_N if grouped else None, 3, seed, rare_NxA)
        counts_FxA = np.stack([rare_NxA[fold_N == fold].sum(0) for fold in range(3)])
        assert np.ptp(counts_FxA, axis=0).max() <= 2 and np.median(np.ptp(counts_FxA, axis=0)) <= 1
        assert np.ptp(np.bincount(fold_N[~test_N])) <= 1  # the others fill up


@settings(deadline=None)
@given(num=st.integers(5, 100), num_folds=st.integers(2, 5), seed=SEEDS)
def test_random_folds_are_even(num, num_folds, seed):
    train_N = np.arange(num) % 4 != 1
    assume(train_N.sum() >= num_folds)
    fold_N = make_folds(train_N, None, num_folds, seed)
    np.testing.assert_array_equal(fold_N < 0, ~train_N)
    counts = np.bincount(fold_N[train_N], minlength=num_folds)
    assert len(counts) == num_folds and counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(make_folds(train_N, None, num_folds, seed), fold_N)


@pytest.mark.parametrize("scaffold_N", [None, np.arange(100)])
def test_seeds_draw_other_folds(scaffold_N):
    folds = {make_folds(np.ones(100, bool), scaffold_N, 4, seed).tobytes() for seed in range(10)}
    assert len(folds) == 10


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: split_molecules("random", np.arange(5), 1.0, 0), "test_fraction .* 0 and 1, both excluded; it is 1"),
        (lambda: split_molecules("random", np.arange(1), 0.5, 0), "1 molecule"),
        (
            lambda: split_molecules("scaffold", np.array([0] * 6 + [1] * 4), 0.4, 0),
            r"of 2 scaffold\(s\), the largest with 6 of 10 .*use a random split",
        ),
        (lambda: make_folds(np.ones(9, bool), None, 1, 0), "at least two folds; got 1"),
        (
            lambda: make_folds(np.array([True, True, True, False]), np.array([0, 1, 1, 2]), 3, 0),
            "2 scaffolds in the train part cannot fill 3 folds",
        ),
        (lambda: make_folds(np.zeros(4, bool), None, 2, 0), "0 molecules in the train part"),
    ],
)
def test_splits_and_folds_that_cannot_be_made(attempt, message):
    with pytest.raises(InputError, match=message):
        attempt()
