"""What people give to the commands and how they see the answers: odd lines, unknown words, figures, consoles."""

import pytest

from seqjax.recipes.language import words


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\f", "\v", "\x1c"])
@pytest.mark.parametrize("at", ["marks", "blanks"])
def test_a_sentence_ends_where_a_line_ends_and_nowhere_else(tmp_path, separator, at):
    path = tmp_path / "text.txt"
    path.write_text(f"one{separator}two three\n" * 30, "utf-8")
    read = words.read("wordlm", str(path), at=at, lower=False)
    assert read.train + read.held_back == [["one", "two", "three"]] * 30
