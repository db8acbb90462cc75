"""No entry is ever taken for that of its neighbour, whatever a server leaves out."""

from hypothesis import given
from hypothesis import strategies as st

from tui_entropy.servers.streams.alignment import TokenAligner
from tui_entropy.servers.streams.told_token import Chunk, ToldToken


def entry(token_id, text=""):
    return ToldToken(token_id, text, None, -1.0 - (token_id or 0))


def test_a_missing_entry_leaves_a_gap_where_it_belongs():
    aligner = TokenAligner()
    tokens = aligner.take(Chunk(tokens=(entry(7), entry(9)), text="abc", token_ids=(7, 8, 9)))
    assert [token.token_id for token in tokens] == [7, 8, 9]
    assert [token.is_told for token in tokens] == [True, False, True]
    assert (aligner.counts.tokens, aligner.counts.unknown, aligner.counts.left_over) == (3, 1, 0)


def test_which_of_two_alike_an_entry_is_of_is_not_guessed():
    aligner = TokenAligner()
    tokens = aligner.take(Chunk(tokens=(entry(7),), token_ids=(7, 7)))
    assert [token.is_told for token in tokens] == [False, False] and aligner.counts.left_over == 1


def test_tokens_that_are_counted_and_not_told_come_before_the_one_that_is():
    aligner = TokenAligner()
    aligner.take(Chunk(tokens=(entry(1, "a"),), text="a", n_tokens=1))
    assert aligner.take(Chunk(n_tokens=2)) == []
    tokens = aligner.take(Chunk(tokens=(entry(4, "😀"),), text="😀", n_tokens=4))
    assert [token.token_id for token in tokens] == [None, None, 4] and tokens[-1].text == "😀"
    assert aligner.counts.tokens == 4 and aligner.counts.at_end == 0
    aligner.take(Chunk(n_tokens=5, is_done=True))
    assert aligner.counts.at_end == 1


def test_text_without_entries_is_a_token_of_which_nothing_is_known():
    (token,) = TokenAligner().take(Chunk(text="hello"))
    assert token.text == "hello" and not token.is_told


def test_the_last_of_several_completes_what_those_before_began():
    first, last = TokenAligner().take(Chunk(tokens=(entry(1), entry(2)), text="é", token_ids=(1, 2)))
    assert (first.text, last.text) == ("", "é")


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12), st.lists(st.integers(1, 4), max_size=12))
def test_every_token_is_itself_or_unknown(tokens, sizes):
    """A stream of ids from a small vocabulary with entries left out, cut into events of several tokens."""
    aligner, found, rest = TokenAligner(), [], list(tokens)
    for size in [*sizes, len(tokens)]:
        part, rest = rest[:size], rest[size:]
        entries = tuple(entry(token_id) for token_id, has_entry in part if has_entry)
        found += aligner.take(Chunk(tokens=entries, token_ids=tuple(token_id for token_id, _ in part)))
    assert [token.token_id for token in found] == [token_id for token_id, _ in tokens]
    for token, (token_id, has_entry) in zip(found, tokens, strict=True):
        assert not token.is_told or (has_entry and token.logprob == -1.0 - token_id)
    assert aligner.counts.tokens == len(tokens)
    n_entries = sum(has_entry for _, has_entry in tokens)
    assert aligner.counts.unknown - aligner.counts.left_over == len(tokens) - n_entries
