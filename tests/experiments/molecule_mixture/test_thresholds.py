"""Which assays can be targets and sources, on made-up tables of the shapes of MUV and ClinTox; nothing is trained."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from experiments.molecule_mixture.config import MoleculeMixture
from experiments.molecule_mixture.data import choose_targets, read_molecules, split_of
from experiments.molecule_mixture.plan import Plan, config_record, describe_plan, make_plan
from mixmin_jax.data.molecules import cleaning, structure_store
from mixmin_jax.data.molecules.assay_tables import AssayTable
from mixmin_jax.data.molecules.cleaning import Cleaning, Molecules
from mixmin_jax.errors import InputError


def made_up(columns, scaffold_N=None, **options):
    """The split of a table with these columns of values; by default, most molecules have a scaffold of their own."""
    values_NxA, assays = np.stack(list(columns.values()), 1).astype(np.float32), tuple(columns)
    num, config = len(values_NxA), MoleculeMixture(assays=Path("table.csv"), **options)
    if scaffold_N is None:
        scaffold_N = np.where(np.arange(num) % 10 == 0, 0, np.arange(num))  # and one is frequent, as benzene is
    counts = Cleaning(num, (), 0, 0, 0, {}, 0)
    molecules = Molecules(("C",) * num, scaffold_N.astype(np.int32), values_NxA, assays, counts)
    stamp = {"bytes": 1, "sha256": ""}
    table = AssayTable(("C",) * num, np.arange(num) + 2, assays, values_NxA, {}, stamp, config.task, "table.csv")
    return split_of(config, table, molecules)


def rare(rng, num, positives, measured=1.0):
    """An assay with these positives; the other measured molecules are negatives."""
    values_N = np.where(rng.random(num) < measured, 0.0, np.nan)
    values_N[rng.choice(num, positives, replace=False)] = 1
    return values_N


def muv(**options):
    """Seventeen assays of 24 to 30 positives, hundreds of negatives for each of them."""
    rng = np.random.default_rng(0)
    return made_up({f"MUV-{a}": rare(rng, 9000, 24 + a % 7, measured=0.8) for a in range(17)}, **options)


def clintox(**options):
    """Two assays, nearly each other's mirror image: 18 molecules are approved and toxic."""
    place_N = np.random.default_rng(0).permutation(1484)
    return made_up({"FDA_APPROVED": (place_N >= 94).astype(float), "CT_TOX": (place_N < 112).astype(float)}, **options)


def test_every_assay_of_muv_s_shape_can_be_a_target_and_a_source():
    split = muv()
    assert (split.train_counts + split.test_counts)[1].min() > 200 * 24
    assert split.can_be_targets == split.names and split.unusable == {}
    plan = make_plan(split)
    assert len(plan.targets) == 10 and {len(target.sources) for target in plan.targets} == {16}
    assert split.fewest_SxA.min() >= 5 and split.test_counts[0].min() >= 5
    told = describe_plan(plan)
    assert f"targets, 10 of 17 that can be: {', '.join(target.name for target in plan.targets)}" in told
    assert "10 positives and as many negatives to train on (--min-positives), 2 of them in every fold" in told
    assert "Fewer than 20 molecules of a class to test, so intervals are rough: MUV-" in told
    many = make_plan(
        muv(num_targets=17, sources=4, folds=5, seeds=1)
    )  # every fold of five has two positives of every assay
    assert len(many.targets) == 17 and many.split.fewest_SxA.min() >= 2


def test_of_two_mirrored_assays_each_is_the_one_source_of_the_other(monkeypatch):
    plan = make_plan(clintox())
    assert {target.name: target.sources for target in plan.targets} == {
        "CT_TOX": ("FDA_APPROVED",),
        "FDA_APPROVED": ("CT_TOX",),
    }
    for target in plan.targets:
        np.testing.assert_array_equal(plan.random_RxA(target, 0), [plan.natural_A(target.source_columns)])
    told = describe_plan(plan)
    assert told.count("one source, mixmin, natural, uniform and random_search are the same") == 2
    assert "\nIn all about " in told
    monkeypatch.setattr(Plan, "flops_per_model", lambda self, learner: None)
    assert describe_plan(plan).endswith("not known beforehand; the run says it from its first stage on")


def test_a_target_with_one_source_beside_one_with_two_has_one_mixture_as_often():
    first_N = rare(np.random.default_rng(0), 1000, 100)
    columns = {"first": first_N, "copy": first_N, "other": rare(np.random.default_rng(1), 1000, 100)}
    plan = make_plan(made_up(columns, target=("first", "other")))
    one, two = (plan.random_RxA(target, 0) for target in plan.targets)
    np.testing.assert_array_equal(one, [[0, 0, 1]] * plan.num_random)
    assert len({*map(tuple, two.tolist())}) == len(two) == plan.num_random == 2


def test_a_source_of_which_nearly_a_copy_is_left_needs_keep():
    mirrored = {"toxic": np.arange(500) % 7 == 0, "approved": np.arange(500) % 7 != 0}
    split = made_up({name: values_N.astype(float) for name, values_N in mirrored.items()}, target=("toxic",))
    with pytest.raises(InputError, match=r"toxic: no other assay .* --keep admits what nearly copies it \(approved\)"):
        make_plan(split)
    assert make_plan(dataclasses.replace(split, config=dataclasses.replace(split.config, keep=("approved",)))).targets[
        0
    ].sources == ("approved",)


def test_where_no_assay_can_be_a_target_each_is_counted_with_the_options_that_admit_it():
    rng = np.random.default_rng(0)
    columns = {f"few{a}": rare(rng, 2000, 13 + a) for a in range(4)} | {"single": rare(rng, 2000, 0)}
    columns["many"] = 1 - rare(rng, 2000, 8)
    split = made_up(columns)
    with pytest.raises(InputError) as raised:
        make_plan(split)
    told = str(raised.value)
    assert "(10 to train on, 5 in the test part, of each class): positives to train on / in the test part: " in told
    assert "few3 12 / 4, few2 12 / 3" in told and "single 0 / 0" in told and "(negatives 6 / 2)" in told
    assert told.endswith("; --min-test-positives 4 admits few3")
    admitted = dataclasses.replace(split, config=dataclasses.replace(split.config, min_test_positives=4))
    assert choose_targets(admitted) == ("few3",)
    with pytest.raises(InputError, match=r"few1: fewer than 5 among the test .*--min-test-positives 3 admits few1"):
        choose_targets(dataclasses.replace(split, config=dataclasses.replace(split.config, target=("few1",))))
    with pytest.raises(InputError, match=r"single: one class only among .*no option admits more"):
        choose_targets(dataclasses.replace(split, config=dataclasses.replace(split.config, target=("single",))))


def test_another_split_is_named_where_it_helps():
    with pytest.raises(
        InputError, match=r"; --test-fraction 0\.2 admits MUV-0, MUV-1, MUV-2, MUV-3, MUV-4 and 12 more"
    ):
        make_plan(muv(test_fraction=0.1, seeds=1))
    scaffold_N = np.where(np.arange(400) < 300, np.arange(400) // 50, np.arange(400))  # six that are too large to test
    columns = {f"frequent{a}": ((np.arange(400) < 300) & (np.arange(400) % 5 == a)).astype(float) for a in range(2)}
    with pytest.raises(InputError, match=r"; --split random admits frequent0, frequent1$"):
        make_plan(made_up(columns, scaffold_N))


def test_assays_that_folds_or_the_test_part_hold_too_little_of_are_left_out_with_the_reason():
    rng, scaffold_N = np.random.default_rng(0), np.arange(1000)
    scaffold_N[:12], scaffold_N[100:150] = 0, 100 + np.repeat(np.arange(10), 5)
    one_fold, few_scaffolds = np.zeros(1000), np.zeros(1000)
    one_fold[:17] = few_scaffolds[100:150] = 1  # twelve of one scaffold, of the others four to test; ten times five
    columns = {"good": rare(rng, 1000, 60), "fine": rare(rng, 1000, 60), "single": np.zeros(1000)}
    split = made_up(columns | {"one fold": one_fold, "grouped": few_scaffolds}, scaffold_N)
    assert split.unusable == {
        "one fold": "fewer than 2 of a class in a fold (1 in seed 0)",
        "single": "one class only among the training molecules (0 positives, 800 negatives)",
    }
    assert split.can_be_targets == ("good", "fine") and split.test_counts[0, -1] == 10
    told = describe_plan(make_plan(split))
    why = "a class of the test molecules has fewer than 5 scaffolds, 1: grouped (2)"
    assert f"  sources and no targets, 1: grouped\n    can be no target, as {why}\n" in told
    assert "  neither target nor source, as fewer than 2 of a class in a fold, 1: one fold (1 in seed 0)\n" in told


def test_the_plan_counts_what_it_does_not_name():
    rng = np.random.default_rng(0)
    plan = make_plan(made_up({f"a{a}": rare(rng, 800, 60) for a in range(60)}, num_targets=1, sources=10))
    told = describe_plan(plan)
    assert "as --sources 10 takes those with more molecules of their rarer class, 49: " in told
    assert told.count(" and 9 more\n") == 1


def test_a_table_is_read_with_progress_once_and_its_contradictions_as_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(structure_store, "LEAST", 1)
    labels = [("CCO", 1), ("OCC", 1), ("CCO", 0), *(("C" * n, 1) for n in range(3, 9))]
    (tmp_path / "t.csv").write_text("smiles,a\n" + "".join(f"{text},{label}\n" for text, label in labels))
    config = MoleculeMixture(assays=tmp_path / "t.csv", split="random")
    assert np.isnan(read_molecules(config).values_NxA[0, 0])
    assert capsys.readouterr().err.startswith("reading 9 structures: ")
    monkeypatch.setattr(cleaning, "_parent_chooser", lambda: pytest.fail("read again"))
    assert read_molecules(dataclasses.replace(config, contradictions="majority")).values_NxA[0, 0] == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "7 contradicting values: not used)\n"),
        (
            {"contradictions": "majority"},
            "7 contradicting values: decided by the majority of rows, 2 draws not used)\n",
        ),
    ],
)
def test_the_plan_says_what_becomes_of_labels_that_contradict(changes, told):
    split = clintox(**changes)
    counted = Cleaning(1490, (), 0, 6, 7, {"CT_TOX": 7}, 2)
    split = dataclasses.replace(split, molecules=dataclasses.replace(split.molecules, cleaning=counted))
    assert told in describe_plan(make_plan(split))
    assert split.inputs() == clintox().inputs() | changes  # stages depend on it


def test_the_thresholds_depend_on_the_task_and_are_on_record():
    of_labels = MoleculeMixture(assays=Path("table.csv"))
    of_values = MoleculeMixture(assays=Path("table.csv"), task="regression")
    asked = MoleculeMixture(assays=Path("table.csv"), min_positives=20, min_test_positives=3)
    found = [(c.least_to_train, c.least_to_test, c.least_scaffolds_to_test) for c in (of_labels, of_values, asked)]
    assert found == [(10, 5, 5), (20, 20, 5), (20, 3, 3)]
    record = config_record(of_labels)
    assert (record["min_positives"], record["min_test_positives"]) == (10, 5) and "contradictions" not in record
