import numpy as np
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.training.nearest_actives import nearest_active

BITS = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0]], np.uint8)


def test_the_largest_tanimoto_similarity_to_another_active():
    is_active_N = np.array([True, True, False, False, False])
    np.testing.assert_allclose(nearest_active(BITS, is_active_N), [2 / 3, 2 / 3, 1 / 4, 1, 0])


def test_it_is_rdkit_s_similarity():
    DataStructs = pytest.importorskip("rdkit.DataStructs")
    bits = np.random.default_rng(0).integers(0, 2, (9, 32)).astype(np.uint8)
    vectors = [DataStructs.CreateFromBitString("".join(map(str, row))) for row in bits]
    expected = [max(DataStructs.TanimotoSimilarity(one, vectors[a]) for a in (0, 1)) for one in vectors[2:]]
    np.testing.assert_allclose(nearest_active(bits, np.arange(9) < 2)[2:], expected, rtol=1e-6)


def test_one_active_is_too_few():
    with pytest.raises(InputError, match="needs two actives at least, got 1"):
        nearest_active(BITS, np.arange(5) == 0)
