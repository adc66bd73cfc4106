import numpy as np
import pytest

from mixmin_jax.data.text import topics as topics_file
from mixmin_jax.data.text.topics import NO_WORDS, topics
from mixmin_jax.errors import InputError

SUBJECTS = (
    "the cook stirs soup and bakes bread with flour and butter in the kitchen oven",
    "the sailor steers the ship through waves and wind toward the harbor by night",
    "the judge read the law and the court heard the verdict of the jury that day",
)
CHINESE = ("我们在厨房里做饭炒菜煮汤烤面包", "船长驾驶轮船穿过海浪驶向港口灯塔")


def written(subjects, number, seed=0, joiner=" "):
    """Documents of a dozen words (or characters) of a subject, the subjects in turn."""
    rng = np.random.default_rng(seed)
    pools = [subject.split() if joiner else list(subject) for subject in subjects]
    drawn = (rng.choice(pools[i % len(pools)], 12) for i in range(number))
    return [joiner.join(words).encode() for words in drawn]


def same_parts(one, other):
    """Whether two numberings put the same documents together."""
    return len(set(zip(one, other, strict=True))) == len(set(one)) == len(set(other))


@pytest.mark.parametrize(("subjects", "joiner"), [(SUBJECTS, " "), (CHINESE, "")])
def test_documents_of_one_subject_get_one_topic_also_in_languages_without_spaces(subjects, joiner):
    found = topics(written(subjects, 60, joiner=joiner), len(subjects), seed=0)
    assert same_parts(found.topic_D.tolist(), [i % len(subjects) for i in range(60)])
    for topic, label in enumerate(found.labels):
        subject = subjects[np.flatnonzero(found.topic_D == topic)[0] % len(subjects)]
        assert label and all(word in subject for gram in label for word in gram.split())


def test_the_largest_topic_comes_first_and_the_seed_decides_all():
    documents = written(SUBJECTS[:1], 30) + written(SUBJECTS[1:2], 10)
    found, again = topics(documents, 2, seed=3), topics(documents, 2, seed=3)
    assert found.topic_D.tolist() == [0] * 30 + [1] * 10
    assert (found.topic_D == again.topic_D).all() and found.labels == again.labels


def test_documents_without_words_are_the_last_topic_and_count_as_one():
    documents = [b"...", *written(SUBJECTS[:2], 20), b"12 + 30"]
    found = topics(documents, 3, seed=0)
    assert found.num_topics == 3 and found.labels[-1] == (NO_WORDS,)
    assert np.flatnonzero(found.topic_D == 2).tolist() == [0, 21]
    alone = topics([b"!", b"?"], 2, seed=0)
    assert alone.topic_D.tolist() == [0, 0] and alone.labels == ((NO_WORDS,),)
    assert topics(documents, 1, seed=0).num_topics == 1


@pytest.mark.parametrize("documents", [[b"one text"] * 5, [b"a", b"b", b"c"], [b"x " * 9000, b"y"]])
@pytest.mark.parametrize("num_topics", [1, 2])
def test_no_topic_is_empty(documents, num_topics):
    found = topics(documents, num_topics, seed=0)
    assert sorted(set(found.topic_D.tolist())) == list(range(found.num_topics)) and found.num_topics <= num_topics


def test_a_sample_is_enough_to_fit_and_batches_change_nothing(monkeypatch):
    documents = written(SUBJECTS, 90)
    monkeypatch.setattr(topics_file, "_FIT", 45)
    whole = topics(documents, 3, seed=0)
    monkeypatch.setattr(topics_file, "_BATCH", 7)
    assert same_parts(whole.topic_D.tolist(), [i % 3 for i in range(90)])
    assert same_parts(topics(documents, 3, seed=0).topic_D.tolist(), whole.topic_D.tolist())


@pytest.mark.parametrize("num_topics", [0, 3])
def test_more_topics_than_documents_are_refused(num_topics):
    with pytest.raises(InputError, match=rf"{num_topics} topics cannot be made of 2 document"):
        topics([b"a text", b"another"], num_topics, seed=0)
