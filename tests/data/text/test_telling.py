import pytest

from mixmin_jax.data.text.telling import telling
from mixmin_jax.errors import InputError

COMMON = "we were there and it was the same for all of us "


def test_what_is_telling_is_frequent_here_and_rare_elsewhere():
    one = [(COMMON + f"the New York Times wrote {word}").encode() for word in ("a", "b", "c")]
    other = [(COMMON + f"zebras wrote {word}").encode() for word in ("a", "b", "c")]
    first, second = telling([one, other], top=2)
    assert first[0] == "new york times" and "zebras" in second[0]
    assert not any(" new " in f" {gram} " for gram in first[1:])  # part of what is shown


def test_one_document_that_repeats_itself_does_not_rule_a_bucket():
    spam = b"spam " * 150
    first, _ = telling([[spam, *[b"soup and bread"] * 9], [b"ships at sea"] * 9], top=1, max_words=1)
    assert first[0] in ("soup", "and", "bread")


def test_what_is_surely_telling_comes_before_what_may_be_chance():
    one = [b"often rare"] * 2 + [b"often"] * 8 + [b"other"] * 10
    (first, _) = telling([one, [b"often"] * 2 + [b"other"] * 18], max_words=1)
    assert first[0] == "often"


def test_languages_without_spaces_are_written_without():
    first, _ = telling([["我们做饭。".encode(), "他们做饭。".encode()], ["我们他们".encode()] * 3], top=1)
    assert first == ("做饭",) or first == ("们做饭",)


def test_nothing_that_may_be_a_secret_or_unprintable_is_shown():
    document = b"call 0172 5550 1234 now \x1b[31m " + b"k" * 60
    (shown, _) = telling([[document] * 3, [b"x y"] * 3], top=50)
    assert shown and all(gram.isprintable() and sum(map(str.isdigit, gram)) <= 4 for gram in shown)
    assert not any("kkk" in gram for gram in shown)


def test_a_bucket_with_few_words_gets_few_and_one_bucket_alone_gets_some():
    assert telling([[b"!?"], [b"yes"]]) == ((), ("yes",))
    assert telling([[b"yes no"]], max_words=1, top=1) in ((("yes",),), (("no",),))


def test_a_sample_of_a_bucket_is_read():
    large = [b"common words here"] * 50 + [b"rare"] * 2
    (all_of_it, _), (sampled, _) = (telling([large, [b"z"]], top=9, max_bytes=size) for size in (10_000, 200))
    assert "rare" in all_of_it and "rare" not in sampled


@pytest.mark.parametrize(("buckets", "options"), [([[b"a"], []], {}), ([[b"a"]], {"top": 0})])
def test_bad_input_is_named(buckets, options):
    with pytest.raises(InputError, match=r"bucket 1 has no documents|top >= 1"):
        telling(buckets, **options)
