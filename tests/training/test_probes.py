"""Probes on features that say what they must find, and on features that say nothing."""

import numpy as np
import pytest

from mixmin_jax.training.probes import k_nn, linear_probe

RNG = np.random.default_rng(0)
LABELS = np.arange(90) % 3


def around_centers(noise):
    centers = 3 * np.eye(3, 5)
    return (centers[LABELS] + noise * RNG.normal(size=(90, 5))).astype(np.float32)


@pytest.mark.parametrize("probe", [linear_probe, k_nn])
def test_a_probe_finds_classes_that_are_apart_and_none_in_noise(probe):
    assert probe(around_centers(0.1), LABELS, around_centers(0.1), LABELS) == 1.0
    assert probe(around_centers(1e3), LABELS, around_centers(1e3), LABELS) < 0.6


def test_neighbors_vote_by_the_cosine_with_dinos_weights():
    train_NxD, test_MxD = (RNG.normal(size=(n, 4)).astype(np.float32) for n in (40, 30))
    labels_N, labels_M = RNG.integers(0, 3, 40), RNG.integers(0, 3, 30)
    right = 0
    for x, label in zip(test_MxD, labels_M, strict=True):
        cosines = train_NxD @ x / np.linalg.norm(train_NxD, axis=1) / np.linalg.norm(x)
        nearest = np.argsort(-cosines)[:5]
        votes = np.bincount(labels_N[nearest], np.exp(cosines[nearest] / 0.07), minlength=3)
        right += votes.argmax() == label
    assert k_nn(train_NxD, labels_N, test_MxD, labels_M, neighbors=5) == pytest.approx(right / 30)
    scale_M = RNG.uniform(1, 9, size=(30, 1)).astype(np.float32)
    assert k_nn(train_NxD, labels_N, scale_M * test_MxD, labels_M, neighbors=5) == pytest.approx(right / 30)


def test_all_examples_vote_if_there_are_fewer_than_neighbors():
    assert k_nn(np.eye(2), np.arange(2), np.eye(2), np.arange(2)) == 1.0


def test_a_linear_probe_sees_features_of_any_scale_alike():
    train_NxD, test_MxD = around_centers(2.0), around_centers(2.0)
    scales_D = np.array([1e-3, 1, 1e3, 1, 1])
    expected = linear_probe(train_NxD, LABELS, test_MxD, LABELS)
    assert 0.4 < expected < 1
    assert linear_probe(train_NxD * scales_D, LABELS, test_MxD * scales_D, LABELS) == expected
