import numpy as np
import pytest

from mixmin_jax.data.text import languages as languages_file
from mixmin_jax.data.text.languages import languages

ENGLISH = "The children went down to the river in the morning, and nobody saw them again before it was dark."
GERMAN = "Die Kinder gingen am Morgen zum Fluss hinunter, und niemand sah sie wieder, bevor es dunkel war."
RUSSIAN = "Утром дети пошли к реке, и никто не видел их снова, пока не стало темно. Тогда они вернулись домой."
CHINESE = "孩子们早上去了河边,直到天黑之前都没有人再见到他们。后来他们自己回家了,大家都很高兴。"
JAPANESE = "子どもたちは朝、川へ行きましたが、暗くなるまで誰も彼らを見ませんでした。"
PYTHON = "def add(one, other):\n    total = one + other\n    return total\n\nprint(add(1, 2) == 3)\n"
JAVA = "public static void main(String[] args) { System.out.println(args[0]); for (int i = 0; i < 3; i++) { f(i); } }"
CODE_WITH_PROSE = f'"""{ENGLISH}"""\n' * 3


def groups(*groups):
    return [[document.encode() for document in group] for group in groups]


@pytest.fixture
def scripts_only(monkeypatch):
    monkeypatch.setattr(languages_file, "_identifier", lambda: (languages_file._script, True))


def test_languages_code_and_noise_are_told_apart():
    pytest.importorskip("py3langid")
    texts = [ENGLISH, GERMAN, RUSSIAN, CHINESE, JAPANESE, PYTHON, JAVA, CODE_WITH_PROSE, "12 + 30 = 42", "?!"]
    found = languages(groups(*([text] for text in texts)))
    names = [found.languages[place] for place in found.share_GxL.argmax(axis=1)]
    assert names == ["en", "de", "ru", "zh", "ja", "code", "code", "en", "unknown", "unknown"]
    assert not found.by_script


def test_most_noise_of_latin_letters_is_of_no_language():
    pytest.importorskip("py3langid")
    rng = np.random.default_rng(0)
    shuffled = ["".join(rng.permutation(list(text))) for text in (ENGLISH, GERMAN) for _ in range(20)]
    found = languages(groups(shuffled))
    assert found.share_GxL[0, found.languages.index("unknown")] > 0.8


@pytest.mark.usefixtures("scripts_only")
def test_without_the_classifier_scripts_are_told_apart():
    found = languages(groups([ENGLISH, GERMAN], [RUSSIAN], [CHINESE], [PYTHON], ["?!"]))
    names = [found.languages[place] for place in found.share_GxL.argmax(axis=1)]
    assert names == ["Latin script", "Cyrillic script", "CJK script", "code", "unknown"] and found.by_script


@pytest.mark.usefixtures("scripts_only")
def test_shares_are_of_bytes_and_of_all_languages():
    found = languages(groups([ENGLISH * 3, PYTHON], [RUSSIAN], []))
    code = found.languages.index("code")
    np.testing.assert_allclose(found.share_GxL[0, code], len(PYTHON) / (3 * len(ENGLISH) + len(PYTHON)))
    np.testing.assert_allclose(found.share_GxL.sum(axis=1), [1, 1, 0])
    assert found.num_documents_G.tolist() == [2, 1, 0]
    assert languages([]).share_GxL.shape == (0, 0)


@pytest.mark.usefixtures("scripts_only")
def test_a_sample_is_read_and_of_a_document_its_middle():
    found = languages(groups([RUSSIAN] * 9, [ENGLISH * 12 + RUSSIAN * 12 + ENGLISH * 12]), max_documents=4)
    assert found.languages == ("Cyrillic script",) and found.num_documents_G.tolist() == [4, 1]
