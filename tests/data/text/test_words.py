from mixmin_jax.data.text.words import find_words, join_words


def test_words_of_languages_with_and_without_spaces():
    text = "It's 3 Äpfel; snake_case, これは日本。"
    words = find_words(text.encode())
    assert words == ["it", "s", "3", "äpfel", "snake_case", *"これは日本"]
    assert join_words(words) == "it s 3 äpfel snake_case これは日本"
    assert find_words("ab 水".encode()[:-1]) == ["ab"]  # cut inside of a character
