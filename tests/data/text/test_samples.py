import pytest

from mixmin_jax.data.text.samples import sample_documents


@pytest.mark.parametrize("max_bytes", [1, 30, 200, 10_000])
def test_a_sample_keeps_to_its_bytes_and_grows_with_them(max_bytes):
    documents = [bytes(n) for n in range(5, 45)]
    chosen = sample_documents(documents, max_bytes, seed=1)
    assert chosen == sorted(set(chosen)) == sample_documents(documents, max_bytes, seed=1)
    assert len(chosen) == 1 or sum(len(documents[i]) for i in chosen) <= max_bytes
    assert set(chosen) <= set(sample_documents(documents, 2 * max_bytes, seed=1))
    assert max_bytes < 10_000 or len(chosen) == 40
    assert max_bytes != 200 or chosen != sample_documents(documents, max_bytes, seed=2)
