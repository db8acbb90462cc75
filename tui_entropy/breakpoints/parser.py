"""The language of breakpoints: `entropy > 3 bits and token ~ "^ the"`. Parsed and checked here, never run as code.

docs/breakpoints.md explains it. What is unknown stays unknown through every operator (Kleene's three values for
`and`, `or` and `not`), and only what is true stops.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from tui_entropy.breakpoints.condition import ESCAPE, LETTERS, Condition, ConditionError, nearest, quoted
from tui_entropy.breakpoints.terms import (
    ACTS,
    ATOM,
    COMPARED,
    INDEXED,
    KINDS,
    LEVELS,
    NAMES,
    NAMES_IN_FILES,
    NOT,
    PRODUCTS,
    SHOWN_IN,
    UNARY,
    UNITS,
    Moment,
    Read,
    Term,
    block_norm,
    both,
    followed,
    heads,
    joined,
    number,
    of_step,
)
from tui_entropy.records.model import ModelCard

MAX_CHARS = 1000
"""Characters of an expression."""
MAX_NESTING = 40
"""Parentheses and signs within each other."""
TEXT_TAIL_CHARS = 4096
"""Newest characters of the text that a pattern is searched in."""
SEARCH_TIMEOUT_S = 0.05
"""Seconds that one search may take."""
MAX_LAYERS = 1000
"""Of a model that is not known yet, and of its heads."""
MAX_COUNT = 100_000
"""What the counts of a pattern may multiply to: `regex` writes each of them out, within each other."""


TOKEN = re.compile(
    r"""(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<word>[^\W\d]\w*)
    | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<sign><=|>=|==|!=|!~|[<>~+\-*/%()\[\],])""",
    re.VERBOSE | re.DOTALL,
)
INSTEAD = {"=": "==", "&": "and", "|": "or", "!": "not", "^": "* for a product", "²": "bits² or nats²"}
LONE = re.compile("[\ud800-\udfff]")
"""Half a character: no text that could be written or sent."""


class Token(NamedTuple):
    kind: str
    """'number', 'word', 'text', 'sign', or 'end'."""
    text: str
    at: int


def parse(text: str, card: ModelCard | None = None) -> Condition:
    """Raises ConditionError. With the card of a model, layers and heads are checked against it."""
    parser = Parser(text, card)
    root = parser.expression(0)
    if parser.now.kind != "end":
        raise parser.wrong(f"{parser.now.text} is not expected here: join two comparisons with `and` or `or`")
    return Condition(text, parser.truth(root), "text" in parser.named, tuple(dict.fromkeys(parser.followed)))


class Parser:
    """Precedence climbing over tokens; each term is checked as it is made."""

    def __init__(self, text: str, card: ModelCard | None) -> None:
        self.text, self.card = text, card
        self.named: set[str] = set()
        self.followed: list[str] = []
        self._depth = 0
        self._tokens = iter(self._split())
        self.now = next(self._tokens)

    def wrong(self, sentence: str, at: int | None = None) -> ConditionError:
        return ConditionError(sentence, self.text, self.now.at if at is None else at)

    def _split(self) -> Iterator[Token]:
        text, at = self.text, 0
        if len(text) > MAX_CHARS:
            raise self.wrong(
                f"the expression is longer than {MAX_CHARS} characters: make two breakpoints of it", MAX_CHARS
            )
        if (bad := LONE.search(text)) is not None:
            raise self.wrong("this is no character", bad.start())
        while at < len(text):
            if text[at].isspace():
                at += 1
                continue
            match = TOKEN.match(text, at)
            if match is None:
                if text[at] in "\"'":
                    raise self.wrong(f"the text that begins here has no closing {text[at]}", at)
                instead = f": write {INSTEAD[text[at]]}" if text[at] in INSTEAD else ""
                raise self.wrong(f"{text[at]!r} has no meaning here{instead}", at)
            yield Token(match.lastgroup or "", match[0], at)
            at = match.end()
        yield Token("end", "", len(text))

    def take(self, text: str = "") -> Token:
        """The token that is now, which must be this one if one is given."""
        token = self.now
        if text and token.text != text:
            found = f"{token.text} stands here" if token.text else "the expression ends"
            raise self.wrong(f"{found} where {text} was wanted")
        self.now = next(self._tokens, token)
        return token

    def expression(self, least: int) -> Term:
        """A term whose operators all bind at least as tightly as that level."""
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise self.wrong(f"more than {MAX_NESTING} parentheses or signs within each other: make it simpler")
        term = self._single()
        while (level := LEVELS.get(self.now.text, -1)) >= least:
            sign = self.take()
            term = self._combined(sign, term, self.expression(level + 1))
        self._depth -= 1
        return term

    def _single(self) -> Term:
        if self.now.kind == "end":
            raise self.wrong("the expression ends where a value was wanted, such as entropy or 3 bits")
        token = self.take()
        match token.kind, token.text:
            case "number", _:
                return self._number(token)
            case "text", _:
                value = self._unquoted(token)
                return Term("text", quoted(value), ATOM, token.at, lambda _: value, literal=value)
            case _, "(":
                term = self.expression(0)
                self.take(")")
                return replace(term, at=token.at)
            case _, "-":
                return self._negative(token, self.expression(UNARY))
            case _, "not":
                term = self.truth(self.expression(NOT))
                return Term(
                    "truth", f"not {term.within(NOT)}", NOT, token.at, both(lambda a, _: not a, term.read, term.read)
                )
            case "word", _ if token.text not in LEVELS:
                return self._name(token)
        raise self.wrong(f"{token.text} stands where a value was wanted, such as entropy or 3 bits", token.at)

    def _number(self, token: Token) -> Term:
        value = float(token.text)
        if math.isinf(value):
            raise self.wrong("this number is too large", token.at)
        if self.now.kind != "word" or self.now.text in (*LEVELS, "not"):
            return number(value, token.at)
        if self.now.text not in UNITS:
            raise self.wrong(f"{self.now.text} is no unit: take bits, nats, bits², nats², s or ms")
        return number(value, token.at, self.take().text)

    def _unquoted(self, token: Token) -> str:
        def meant(match: re.Match[str]) -> str:
            what = match[1]
            if what[0] not in "xuU":
                return LETTERS.get(what, what)
            code = int(what[1:], 16)
            return chr(code) if code <= 0x10FFFF else "\ud800"

        value = ESCAPE.sub(meant, token.text[1:-1])
        if LONE.search(value):
            raise self.wrong("this text has a code that is no character", token.at)
        return value

    def _negative(self, sign: Token, term: Term) -> Term:
        self._quantity(term)
        if term.bare is not None:
            return number(-term.bare, sign.at)
        inside = term.read
        return Term(term.kind, f"-{term.within(UNARY)}", UNARY, sign.at, both(lambda a, _: -a, inside, inside))

    # --- Names -----------------------------------------------------------------------------------------------

    def _name(self, token: Token) -> Term:
        name = NAMES_IN_FILES.get(token.text, token.text)
        if self.now.text == "[":
            return self._indexed(token)
        if name in NAMES:
            self.named.add(name)
            kind, read, values = NAMES[name]
            of_moment: Read = (lambda moment: moment.text) if name == "text" else of_step(read)
            return Term(kind, name, ATOM, token.at, of_moment, values=values)
        if name in INDEXED:
            raise self.wrong(f"{name} wants {INDEXED[name]}", token.at)
        raise self.wrong(f"nothing is called {name}{nearest(name, (*NAMES, *INDEXED))}", token.at)

    def _indexed(self, token: Token) -> Term:
        name = token.text
        if name not in INDEXED:
            raise self.wrong(f"{name} has no index: only {', '.join(INDEXED)} have one", token.at)
        self.take("[")
        if name in ("p", "rank"):
            if self.now.kind != "text" or not (text := self._unquoted(self.now)):
                raise self.wrong(f"{name} wants {INDEXED[name]}")
            self.take()
            self.followed.append(text)
            read, index = followed(text, name == "rank"), quoted(text)
        else:
            read, index = self._of_layer(name)
        self.take("]")
        return Term("number", f"{name}[{index}]", ATOM, token.at, read)

    def _of_layer(self, name: str) -> tuple[Read, str]:
        card, at = self.card, self.now.at
        layer, head = self._whole(name, "layer", card.n_layers if card else MAX_LAYERS), None
        if name == "head":
            if card and not card.attention[layer - 1]:
                raise self.wrong(f"layer {layer} of {card.name} has no attention: take another one", at)
            if self.now.text == ",":
                self.take()
                head = self._whole(name, "head", card.n_heads if card else MAX_LAYERS)
        read = heads(layer, head) if name == "head" else block_norm(layer)
        return read, f"{layer},{head}" if head else f"{layer}"

    def _whole(self, name: str, what: str, most: int) -> int:
        token = self.now
        if not token.text.isdecimal():
            raise self.wrong(f"{name} wants {INDEXED[name]}")
        value = int(token.text)
        if not 1 <= value <= most:
            raise self.wrong(f"there is no {what} {value}: they go from 1 to {most}")
        self.take()
        return value

    # --- Two terms to one ------------------------------------------------------------------------------------

    def _combined(self, sign: Token, left: Term, right: Term) -> Term:
        level = LEVELS[sign.text]
        if sign.text in ("and", "or"):
            kind, read = "truth", joined(sign.text == "or", self.truth(left).read, self.truth(right).read)
        elif sign.text in ("~", "!~"):
            kind, read = "truth", self._search(sign, left, right)
        else:
            if level > COMPARED and left.bare is not None and right.bare is not None:
                return self._folded(sign, left, right)
            if sign.text not in "*/":
                left, right = adapted(left, right), adapted(right, left)
            kind, read = self._kind(sign, left, right), both(ACTS[sign.text], left.read, right.read)
        spelled = f"{left.within(level)} {sign.text} {right.within(level + 1)}"
        return Term(kind, spelled, level, left.at, read)

    def _folded(self, sign: Token, left: Term, right: Term) -> Term:
        value = ACTS[sign.text](left.bare, right.bare)
        if value is None or not math.isfinite(value):
            raise self.wrong("this is no number that could be reckoned with", sign.at)
        return number(value, left.at)

    def _kind(self, sign: Token, left: Term, right: Term) -> str:
        """The kind that the operator makes of these two. Raises ConditionError where it makes nothing of them."""
        comparing = LEVELS[sign.text] == COMPARED
        if comparing and "truth" in (left.kind, right.kind):
            term = left if left.kind == "truth" else right
            raise self.wrong(f"{term.spelled} is {KINDS['truth']}: join comparisons with `and`", term.at)
        if sign.text in ("==", "!=") and left.kind == right.kind == "text":
            for one, other in ((left, right), (right, left)):
                if one.values and other.literal is not None and other.literal not in one.values:
                    hint = nearest(other.literal, one.values)
                    raise self.wrong(f"{one.spelled} is never {other.spelled}{hint}", other.at)
            return "truth"
        if sign.text in "*/":
            kind = PRODUCTS.get((self._quantity(left).kind, sign.text, self._quantity(right).kind))
            if kind is None:
                raise self.wrong(
                    f"{left.within(6)} {sign.text} {right.within(7)} has no unit that could be shown", sign.at
                )
            return kind
        if left.kind == right.kind and left.kind != "text":
            return "truth" if comparing else self._quantity(left).kind
        if left.kind == right.kind == "text":
            raise self.wrong(f"{sign.text} is for numbers: compare text with ==, != or ~", sign.at)
        raise self.wrong(
            f"{left.spelled} is {KINDS[left.kind]}, and {right.spelled} is {KINDS[right.kind]}: "
            f"they cannot be {'compared' if comparing else 'put together'}",
            right.at,
        )

    def _search(self, sign: Token, left: Term, right: Term) -> Read:
        if left.kind != "text":
            raise self.wrong(f"{left.spelled} is {KINDS[left.kind]}: a pattern is searched in token or text", left.at)
        if right.literal is None:
            raise self.wrong(f'{sign.text} wants a pattern in quotes, such as "(?i)sorry"', right.at)
        search, negated, inside = self._pattern(right.literal, right.at), sign.text == "!~", left.read

        def read(moment: Moment) -> bool:
            text = inside(moment)
            return (search(text, max(len(text) - TEXT_TAIL_CHARS, 0), timeout=SEARCH_TIMEOUT_S) is None) is negated

        return read

    def _pattern(self, pattern: str, at: int) -> Callable[..., object]:
        import regex  # a fiftieth of a second, for those who need it

        counts = [max(int(n or 1), 1) for pair in re.findall(r"\{\D*(\d*),?(\d*)", pattern) for n in pair]
        if math.prod(counts) > MAX_COUNT:
            raise self.wrong(f"the counts of this pattern multiply to more than {MAX_COUNT}: take smaller ones", at)
        try:
            with warnings.catch_warnings(action="ignore"):
                search: Callable[..., object] = regex.compile(pattern).search
        except Exception as error:  # its parser raises more than its own errors
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise self.wrong(f"this is no regular expression: {reason}", at) from None
        return search

    def truth(self, term: Term) -> Term:
        if term.kind != "truth":
            raise self.wrong(f"{term.spelled} is {KINDS[term.kind]}: compare it with something", term.at)
        return term

    def _quantity(self, term: Term) -> Term:
        if term.kind in ("truth", "text"):
            raise self.wrong(f"{term.spelled} is {KINDS[term.kind]}, where a number was wanted", term.at)
        return term


def adapted(term: Term, beside: Term) -> Term:
    """A number without a unit is in what the screen shows the quantity beside it in."""
    if term.bare is None or beside.kind not in SHOWN_IN:
        return term
    return number(term.bare, term.at, SHOWN_IN[beside.kind])
