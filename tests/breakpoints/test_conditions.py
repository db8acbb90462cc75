"""The language of breakpoints: what it means, what it refuses and where, and that nothing else comes out of it."""

import math
import re

import pytest
from cards import CARD
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_steps import lens_rows, with_numbers
from msgspec.structs import replace
from places import ROOT
from scripted import step

from tui_entropy.breakpoints.condition import ConditionError
from tui_entropy.breakpoints.parser import MAX_CHARS, MAX_NESTING, TEXT_TAIL_CHARS, parse
from tui_entropy.metrics.metric import LN2
from tui_entropy.metrics.registry import METRICS
from tui_entropy.records.arrays import Grid
from tui_entropy.records.sampling import Knobs
from tui_entropy.records.settings import Watch
from tui_entropy.records.step import Decision, Shadow, Step, Watched

MANUAL = ROOT / "docs" / "breakpoints.md"
SHADOW = Shadow(0.5, 0.1, 0.1, 0.4, 0.9, 2, 7, b" \xff", 7, b" \xff")
STEP = replace(
    with_numbers(step(2), entropy=3.2 * LN2, varentropy=1.5 * LN2**2, surprisal=2 * LN2, rank=4.0),
    state="Uncertain",
    shadow=SHADOW,
)


def holds(expression: str, at: Step = STEP, text: str = "The capital is Paris", watches=()) -> bool:
    return parse(expression).holds(at, text, watches)


@pytest.mark.parametrize(
    "expression",
    [
        "entropy > 3",
        "entropy > 3 bits and entropy < 3.3bits",
        "entropy < 3 nats",
        "varentropy > 1 and rank >= 4",
        "varentropy > 1.4 bits2 and varentropy < 1.6 bits²",
        'token == " Paris" and token != "Paris"',
        "token == ' Paris'",
        'text ~ "(?i)PARIS$" and text !~ "Rome"',
        'text ~ "\\bcapital\\b"',
        "kl > 0.5 bits and kl == 0.5 nats and flip",
        "entropy_change == entropy - 0.4 nats and shadow_entropy < entropy",
        "surprisal_change < 1 bits",
        "step == 3 and step % 3 == 0 and position == 5",
        'state == "Uncertain" and state ~ "^Un"',
        "logprob == -2 and prob > 0.249 and prob < 0.251 and final_prob == 0.5",
        "head[3,2] > 0.59 and head[3] < 0.61 and norm[3] == 26",
        "forward_pass == 40 ms and forward_pass < 0.05",
        "entropy > final_entropy * 2 + 1",
        "2 * entropy - 1 bits > 5",
        "entropy / 2 > 1.5 and entropy / 1 bits > 3",
        "entropy * entropy > varentropy",
        "varentropy / entropy < 1 bits",
        "-entropy < -3",
        "not entropy > 4 or kl < 0",
        "strays == 0 and (head_entropy > 0 or 1 == 2)",
        'p[" Paris"] > 0.69 and rank[" Paris"] == 1',
    ],
)
def test_what_is_true_of_a_step(expression):
    condition = parse(expression)
    assert condition.holds(STEP, "The capital is Paris")
    assert parse(condition.canonical()).holds(STEP, "The capital is Paris")
    assert not parse(f"not ({expression})").holds(STEP, "The capital is Paris")


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("entropy>3", "entropy > 3 bits"),
        ("varentropy > 1.50", "varentropy > 1.5 bits²"),
        ("entropy > 2 + 1 and forward_pass<.1", "entropy > 3 bits and forward_pass < 0.1 s"),
        ("((entropy > 3 nats))", "entropy > 3 nats"),
        ("-3 < logprob", "-3 bits < logprob"),
        ("entropy - (1 - rank/rank) * final_entropy > 1", "entropy - (1 - rank / rank) * final_entropy > 1 bits"),
        ("not (flip or flip) and flip", "not (flip or flip) and flip"),
        ("token == 'say \"\\n'", 'token == "say \\"\\n"'),
        ("head[ 5 , 3 ] < 0.2", "head[5,3] < 0.2"),
        ("varentropy > 2 bits2", "varentropy > 2 bits²"),
    ],
)
def test_the_canonical_form_shows_every_unit(typed, canonical):
    assert parse(typed).canonical() == canonical == parse(canonical).canonical()


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_series_has_a_name_and_is_compared_in_the_unit_that_is_shown(metric):
    at = replace(step(20), shadow=SHADOW, lens_rows=lens_rows(3))
    name, value = metric.name.replace(" ", "_"), metric.value(at, bits=True)
    assert value is not None
    if metric.name in ("flip", "by lane"):
        assert holds(name if value else f"not {name}", at)
        return
    assert holds(f"{name} > {value - 0.001!r} and {name} < {value + 0.001!r}", at)


def test_what_is_unknown_stops_nothing_however_it_is_asked():
    bare = replace(STEP, shadow=None, entropy_z=None, head_entropy=Grid.of([[math.nan] * 2] * 3), candidates=())
    unknown = (
        "kl > 0.5",
        "commitment_layer > 2",
        "lens_kl > 1 bits",
        "flip",
        "entropy_z > 1",
        "head[1,1] < 9",
        "head[9] < 9",
        'p["x"] < 1',
        "1 / (rank - rank) > 0",
    )
    for one in unknown:
        for asked in (one, f"not ({one})", f"({one}) and entropy > 0", f"not (({one}) or entropy < 0)"):
            assert not holds(asked, bare)
        assert holds(f"({one}) or entropy > 0", bare)
        assert holds(f"not (({one}) and entropy < 0)", bare)


def test_a_watched_text_counts_before_a_candidate_and_outside_of_them():
    watches = (Watch("Yes indeed", 9, b"Yes", 3), Watch(" Paris", 10, b" Paris", 1))
    seen = replace(STEP, watched=(Watched(9, math.log(1e-6), 900, -3.0), Watched(10, math.log(0.25), 3, 1.0)))
    assert holds('p["Yes indeed"] < 0.00001 and rank["Yes indeed"] == 900', seen, watches=watches)
    assert holds('p[" Paris"] == 0.25 and rank[" Paris"] == 3', seen, watches=watches)
    assert not holds('p["Yes indeed"] < 0.00001', seen)
    assert parse('p["a"] > 0 and rank["b"] > 1 and p["a"] < 1').followed == ("a", "b")


def test_the_quadrant_is_the_one_of_the_decision_or_of_the_usual_thresholds():
    decided = replace(STEP, decision=Decision("own", "asking", "as set", {}, Knobs()))
    assert holds('quadrant == "asking"', decided) and not holds('quadrant == "asking"')
    assert holds('quadrant == "resampling"', with_numbers(STEP, entropy=6 * LN2, varentropy=9 * LN2**2))


@pytest.mark.parametrize(
    ("expression", "at", "said"),
    [
        ("", 0, "wanted"),
        ("entropy >", 9, "wanted"),
        ("entropy > > 3", 10, "wanted"),
        ('entropy == "x"', 11, "cannot be compared"),
        ("entrpy > 3", 0, "did you mean entropy?"),
        ("rank > 3 bits", 7, "a plain number"),
        ("varentropy > 3 bits", 13, "cannot be compared"),
        ("entropy > 3 bots", 12, "no unit"),
        ("entropy + rank > 3", 10, "cannot be put together"),
        ("entropy * varentropy > 1", 8, "no unit"),
        ("1 < entropy < 3", 0, "join comparisons with `and`"),
        ("flip == flip", 0, "true or false"),
        ("entropy and rank > 3", 0, "compare it"),
        ("rank > 3 and token", 13, "compare it"),
        ("entropy = 3", 8, "write =="),
        ("rank > 3 && flip", 9, "write and"),
        ("rank > 3 (rank > 4)", 9, "`and` or `or`"),
        ("(rank > 3", 9, "wanted"),
        ("rank > 3)", 8, "not expected"),
        ("token < 'a'", 6, "compare text with"),
        ("token == 'a", 9, "no closing '"),
        ("token == '\\ud800'", 9, "no character"),
        ("rank ~ '3'", 0, "token or text"),
        ("token ~ state", 8, "in quotes"),
        ("token ~ '('", 8, "no regular expression"),
        ("token ~ '(?:(?:a{1000}){1000}){1000}'", 8, "smaller"),
        ('state == "Uncertian"', 9, "did you mean Uncertain?"),
        ("head > 0.5", 0, "head[5,3]"),
        ("entropy[3] > 0.5", 0, "no index"),
        ("head[0] > 0.5", 5, "from 1"),
        ("head[1.5] > 0.5", 5, "head[5,3]"),
        ("norm[1,2] > 3", 6, "where ] was wanted"),
        ('p[""] > 0.5', 2, "a text"),
        ("rank > 1e999", 7, "too large"),
        ("rank > 1 / 0", 9, "reckoned"),
        ("-token == 3", 1, "a number was wanted"),
    ],
)
def test_a_mistake_is_explained_where_it_is(expression, at, said):
    with pytest.raises(ConditionError, match=re.escape(said)) as caught:
        parse(expression)
    assert (caught.value.at, caught.value.text) == (at, expression)
    sentence, line, caret = caught.value.shown().split("\n")
    assert "\n" not in sentence and line == "  " + expression and caret == " " * (at + 2) + "^"


def test_the_caret_stands_under_the_place_whatever_is_before_it():
    with pytest.raises(ConditionError) as caught:
        parse("token == '首都\n' and x")
    assert caught.value.shown().split("\n")[1:] == ["  token == '首都·' and x", " " * 23 + "^"]
    with pytest.raises(ConditionError) as caught:
        parse("(" + "rank > 1 and " * 50 + ")")
    _, line, caret = caught.value.shown().split("\n")
    assert len(line) < 110 and line[len(caret) - 1] == ")"


def test_layers_and_heads_are_those_of_the_model_where_it_is_known():
    assert parse("head[2,2] > 0 and norm[3] > 0", CARD)
    for wrong, said in (
        ("head[4] > 0", "from 1 to 3"),
        ("norm[4] > 0", "from 1 to 3"),
        ("head[1,3] > 0", "from 1 to 2"),
        ("head[3] > 0", "no attention"),
    ):
        assert parse(wrong)
        with pytest.raises(ConditionError, match=said):
            parse(wrong, CARD)


def test_a_pattern_sees_the_newest_of_a_long_text_and_its_true_beginning():
    long = "a" + "b" * TEXT_TAIL_CHARS
    assert not holds('text ~ "a"', text=long) and not holds('text ~ "^b"', text=long)
    assert holds('text ~ "ab"', text="a" + "b" * (TEXT_TAIL_CHARS - 1))


def test_a_pattern_that_takes_too_long_is_given_up():
    with pytest.raises(TimeoutError):
        holds('text ~ "(a?){100}a{100}c"', text="a" * 4000)


def test_length_and_depth_are_bounded():
    for text in ("(" * 2000, "(" * (MAX_NESTING + 1) + "flip", "not " * 200 + "flip", "-" * 900 + "rank > 1"):
        with pytest.raises(ConditionError):
            parse(text)
    flat = " or ".join(["rank > 1"] * (MAX_CHARS // 12))
    assert holds(flat) and parse(flat).canonical() == flat
    assert holds(f"{'+'.join(['rank'] * 195)} > 3")


@pytest.mark.parametrize("block", re.findall(r"```\n(.*?)```", MANUAL.read_text(), re.DOTALL))
def test_every_example_in_the_manual_is_of_the_language(block):
    for line in block.splitlines():
        assert parse(line.split("  #")[0]).canonical()


# --- Whatever is typed ---------------------------------------------------------------------------------------

PARTS = (
    "entropy", "varentropy", "rank", "token", "text", "state", "flip", "kl", "head", "norm", "p", "[", "]", "(", ")",
    ",", "and", "or", "not", "<", ">=", "==", "~", "!~", "+", "-", "*", "/", "%", "3", "2.5", "1e400", "bits",
    "nats²", "ms", '"Paris"', "'(a'", "'[a-z]+$'", "\\", "=", "é", "\0", '"',
)  # fmt: skip


@given(
    st.one_of(
        st.text(), st.lists(st.sampled_from(PARTS)).map(" ".join), st.binary().map(lambda b: b.decode("latin1"))
    )
)
@example("\udc80")
@example('token == "\\U99999999"')
@example("token ~ '" + "(" * 900 + "'")
@settings(deadline=None)
def test_nothing_but_a_condition_or_a_mistake_with_its_place_comes_out(text):
    try:
        condition = parse(text)
    except ConditionError as mistake:
        assert 0 <= mistake.at <= max(len(text), MAX_CHARS) and mistake.shown().count("\n") == 2
        return
    assert condition.holds(STEP, "The capital is Paris") in (True, False)
    assert parse(condition.canonical()).canonical() == condition.canonical()


@given(st.text())
def test_any_text_in_quotes_is_read_back_as_it_was(text):
    spelled = "".join(f"\\U{ord(letter):08x}" for letter in text)
    try:
        condition = parse(f'token == "{spelled}"')
    except ConditionError as mistake:
        assert len(spelled) > 900 or "no character" in str(mistake)
        return
    again = parse(condition.canonical())
    assert again.holds(replace(STEP, token_bytes=text.encode()), "") and again.canonical() == condition.canonical()


# An expression as a tree, and what it is by a second reckoning: information in nats, unknown as None.

NAMED = {
    "information": {"entropy": STEP.entropy, "surprisal": STEP.surprisal, "kl": 0.5, "entropy_z * 1 bits": None},
    "number": {"rank": 4.0, "step": 3.0, "entropy_z": None},
}
UNITS = {"information": [(" bits", LN2), (" nats", 1.0)], "number": [("", 1.0)]}


def quantities(kind):
    units = st.sampled_from(UNITS[kind])
    numbers = st.tuples(st.integers(0, 9), units).map(lambda n: (f"{n[0]}{n[1][0]}", n[0] * n[1][1]))
    known = st.sampled_from([*NAMED[kind].items()])

    def grown(inner):
        added = st.tuples(inner, st.sampled_from("+-"), inner).map(
            lambda t: (f"({t[0][0]} {t[1]} {t[2][0]})", plus(*t))
        )
        return added | inner.map(lambda t: (f"-({t[0]})", None if t[1] is None else -t[1]))

    return st.recursive(numbers | known, grown, max_leaves=4)


def plus(left, sign, right):
    if left[1] is None or right[1] is None:
        return None
    return left[1] + right[1] if sign == "+" else left[1] - right[1]


COMPARE = {
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip


def comparisons(kind):
    sides = quantities(kind)
    return st.tuples(sides, st.sampled_from(sorted(COMPARE)), sides).map(
        lambda t: (
            f"{t[0][0]} {t[1]} {t[2][0]}",
            None if None in (t[0][1], t[2][1]) else COMPARE[t[1]](t[0][1], t[2][1]),
        )
    )


TABLE = {True: 2, None: 1, False: 0}
"""Kleene's values in order: `and` is the least of two, `or` the greatest, `not` turns them round."""
VALUE = {place: value for value, place in TABLE.items()}


def truths():
    def grown(inner):
        pairs = st.tuples(inner, st.sampled_from(["and", "or"]), inner)
        joined = pairs.map(
            lambda t: (
                f"({t[0][0]}) {t[1]} ({t[2][0]})",
                VALUE[(min if t[1] == "and" else max)(TABLE[t[0][1]], TABLE[t[2][1]])],
            )
        )
        return joined | inner.map(lambda t: (f"not ({t[0]})", VALUE[2 - TABLE[t[1]]]))

    return st.recursive(comparisons("information") | comparisons("number"), grown, max_leaves=5)


@given(truths())
@settings(deadline=None)
def test_it_agrees_with_a_second_reckoning_and_so_does_its_canonical_form(pair):
    text, value = pair
    at = replace(STEP, entropy_z=None)
    try:
        condition = parse(text)
    except ConditionError as mistake:
        assert "simpler" in str(mistake) or "longer" in str(mistake)
        return
    again = parse(condition.canonical())
    assert again.canonical() == condition.canonical()
    for one in (condition, again):
        assert one.holds(at, "") is (value is True)
    assert parse(f"not ({text})").holds(at, "") is (value is False)


@given(truths(), truths())
@settings(deadline=None)
def test_the_laws_of_three_values(left, right):
    at, (a, _), (b, _) = replace(STEP, entropy_z=None), left, right

    def same(one, other):
        try:
            parsed = parse(one), parse(other), parse(f"not ({one})"), parse(f"not ({other})")
        except ConditionError:
            return True  # too long or too deep
        truth, other_truth, wrong, other_wrong = (each.holds(at, "") for each in parsed)
        return (truth, wrong) == (other_truth, other_wrong)

    assert same(f"not (({a}) and ({b}))", f"not ({a}) or not ({b})")
    assert same(f"({a}) and ({b})", f"({b}) and ({a})")
    assert same(f"({a}) or (({a}) and ({b}))", a)
    assert same(f"not (not ({a}))", a)
