import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax.data.text.tokens import SEPARATOR
from mixmin_jax.models.transformer import TransformerLM
from mixmin_jax.training.mesh import make_mesh
from mixmin_jax.training.scoring import count_windows, document_windows, score_documents

DOCUMENTS = [b"a", b"abcdefgh", b"abcdefghi", "é".encode() * 13]


@pytest.fixture(scope="module")
def params(run):
    states = [run.init(jax.random.key(seed)).params for seed in range(3)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def test_every_byte_is_a_target_exactly_once():
    rows, mask = document_windows(DOCUMENTS, 8)
    assert rows[:, 1:][mask].tobytes() == b"".join(DOCUMENTS)
    assert len(rows) == count_windows(DOCUMENTS, 8) == 1 + 1 + 2 + 4
    firsts = rows[:, 0]
    assert firsts[[0, 1, 2, 4]].tolist() == [SEPARATOR] * 4
    assert firsts[3] == ord("h")  # a later window begins with the byte before it


def test_scores_are_those_of_each_model_on_each_window(run, params):
    scores = score_documents(run.model, params, DOCUMENTS, 8)
    assert scores.logp_NxM.shape == (sum(map(len, DOCUMENTS)), 3)
    text = bytes([SEPARATOR]) + DOCUMENTS[1]
    tokens = jnp.asarray(np.frombuffer(text, np.uint8))[None]
    for m in range(3):
        logits = TransformerLM(run.model).apply(jax.tree.map(lambda leaf, m=m: leaf[m], params), tokens[:, :-1])
        logp = jax.nn.log_softmax(logits)[0, jnp.arange(8), tokens[0, 1:]]
        np.testing.assert_allclose(scores.logp_NxM[1:9, m], logp, rtol=1e-5, atol=1e-5)


def test_document_rows_sum_their_bytes(run, params):
    scores = score_documents(run.model, params, DOCUMENTS, 8)
    ends = np.cumsum(scores.bytes_D)
    expected = [scores.logp_NxM[e - n : e].astype(np.float64).sum(0) for e, n in zip(ends, scores.bytes_D, strict=True)]
    np.testing.assert_allclose(scores.document_logp_DxM, expected, rtol=1e-12)


@pytest.mark.parametrize("axes", [(2, 1), (2, 3), (8, 1)])
def test_a_mesh_changes_no_score(run, params, axes):
    """Three models on two devices are padded with one whose scores are dropped, and batches on three with rows."""
    one = score_documents(run.model, params, DOCUMENTS, 8).logp_NxM
    np.testing.assert_allclose(
        score_documents(run.model, params, DOCUMENTS, 8, mesh=make_mesh(*axes)).logp_NxM, one, rtol=1e-5, atol=1e-5
    )


def test_more_documents_than_one_call_holds_give_the_same_scores(run, params):
    many = DOCUMENTS * 200
    seen = []
    scores = score_documents(run.model, params, many, 8, on_block=lambda *a: seen.append(a))
    once = score_documents(run.model, params, DOCUMENTS, 8)
    np.testing.assert_allclose(scores.logp_NxM, np.tile(once.logp_NxM, (200, 1)), rtol=1e-5, atol=1e-5)
    assert seen[-1] == (1600, 1600) and len(seen) == 4
