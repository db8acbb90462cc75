"""Looking: at which step, token, layer and head, in which unit, under which tint."""

from __future__ import annotations

from dataclasses import replace

from tui_entropy.metrics.registry import BY_NAME
from tui_entropy.ui.dialogs.ask_line import number, unescape
from tui_entropy.ui.keys.head_choice import kinds_at, next_of_a_kind
from tui_entropy.ui.keys.needs import acts
from tui_entropy.ui.pages.numbers import NumbersState
from tui_entropy.ui.panes.heads import HeadsState
from tui_entropy.ui.protocol.actions import Actions
from tui_entropy.ui.protocol.host import Host
from tui_entropy.ui.protocol.remark import Remark
from tui_entropy.ui.views.attention_rows import has_rows
from tui_entropy.ui.views.frame import Frame
from tui_entropy.ui.views.jump_targets import MATCHES, JumpState, Matches, choices, count, next_target, targets

TINTS = tuple(
    BY_NAME[name] for name in ("entropy", "varentropy", "surprisal", "rank", "window perplexity", "head entropy")
)
"""The series that most people want to tint by."""
BEFORE = "the prompt stands before this token: {open.prompt} opens it token by token, and ← once nothing is written"


class LookActions(Actions[Host]):
    """The actions that change the usual screen and nothing else."""

    # --- At which step ---------------------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        frame = self.app.frame
        if by > 0 or frame.cursor or not acts(frame, "open.prompt"):
            self.app.go_to((frame.cursor or 0) + by)
        elif frame.log.state in ("reading", "writing"):
            self.app.say(BEFORE, holds=lambda frame: acts(frame, "open.prompt"))
        else:
            self.app.go_before_first()

    def action_first(self) -> None:
        self.app.go_to(0)

    def action_follow(self) -> None:
        """And of requests that pass through a proxy, once the newest token is followed, to the newest request."""
        frame, newest = self.app.frame, max(self.app.frame.log.runs, default=0)
        if frame.log.proxied and frame.following and not frame.played and frame.log.run_number != newest:
            self.app.go_to_run(newest)
        self.app.show(following=True)

    def action_jump(self) -> None:
        last = self.app.frame.last + 1
        if last < 1:
            self.app.refuse("there is no step yet to jump to")
            return
        self.app.ask("jump to which step?", lambda text: self.app.go_to(int(text) - 1), check=number(1, last))

    def action_target(self, by: int) -> None:
        """To the next of what was chosen to jump to, or to the one before."""
        frame = self.app.frame.looked_at
        step = next_target(frame, by)
        if step is None:
            self.app.refuse(f"there are {count(frame)} in this text: ' chooses what to jump to, / searches")
            return
        wrapped = frame.cursor is not None and (step - frame.cursor) * by <= 0
        self.app.go_to(step)
        if wrapped:
            self.app.say(f"from the {'first' if by > 0 else 'last'} on again: {count(self.app.frame.looked_at)}")

    def action_target_kind(self) -> None:
        """The next kind of which there are any."""
        frame = self.app.frame.looked_at
        kinds = choices(frame)
        kind = kinds[(kinds.index(frame.of(JumpState).kind) + 1) % len(kinds)]
        self.app.show(**self.app.frame.put(JumpState, kind=kind))
        self.app.say(f"; and : go to {count(self.app.frame.looked_at)}")

    def action_search(self) -> None:
        frame = self.app.frame.looked_at
        if not frame.log.steps:
            self.app.refuse("nothing is written yet that could be searched")
            return
        self.app.ask("/", self._search, check=lambda typed: Remark(_found(frame, unescape(typed))))

    def _search(self, typed: str) -> None:
        """To the first match from the cursor on, in a text that is followed to the newest one."""
        query = unescape(typed)
        state = JumpState(MATCHES, query) if query else JumpState()
        self.app.show(**self.app.frame.put(JumpState, kind=state.kind, query=query))
        frame = self.app.frame.looked_at
        found = targets(frame)
        if query and not found:
            self.app.refuse(f"{count(frame)} in this text{_in_the_prompt(frame, query)}")
        elif query and frame.cursor not in found:
            self.action_target(-1 if frame.following else 1)

    # --- At what of it ---------------------------------------------------------------------------------------

    def action_select(self, by: int) -> None:
        if self.app.page is None:
            self.app.show(**self.app.frame.selecting(by))

    def action_layer(self, by: int) -> None:
        if card := self.app.frame.log.card:
            self.app.show(layer=min(max(self.app.frame.layer + by, 1), card.n_layers))

    def action_head(self, by: int) -> None:
        if card := self.app.frame.log.card:
            head = min(max((self.app.frame.head or 0) + by, 0), card.n_heads)
            self.app.show(head=head or None)

    def action_head_of_a_kind(self) -> None:
        """The next one above, of those whose kind says something of the text."""
        frame = self.app.frame.looked_at
        place = next_of_a_kind(frame)
        if place is None:
            self.app.refuse("no head of a kind is known here: it takes a few tokens, and attention that can be read")
            return
        (layer, head), (pattern, share) = place, kinds_at(frame)[place]
        self.app.show(layer=layer, head=head)
        self.app.say(
            f"layer {layer} head {head}, {pattern.name}: {100 * share:.0f} % of its weight is on {pattern.about}"
        )

    def action_head_changes(self) -> None:
        state = self.app.frame.of(HeadsState)
        self.app.show(**self.app.frame.put(HeadsState, changes=not state.changes))

    # --- How -------------------------------------------------------------------------------------------------

    def action_tint(self) -> None:
        """The next of the usual ones; the one chosen on the numbers page comes behind them, and last what the token
        under the cursor looked at, where there are attention rows."""
        frame = self.app.frame
        beside = [BY_NAME["kl"]] if frame.log.run.shadow else []
        known = [metric for metric in (*TINTS, *beside) if frame.log.capabilities.knows(metric.name)]
        round = list(dict.fromkeys([*known, frame.of(NumbersState).chosen, frame.tint]))
        at = round.index(frame.tint)
        looks = at == len(round) - 1 and not frame.attention_tint and has_rows(frame)
        self.app.show(tint=frame.tint if looks else round[(at + 1) % len(round)], attention_tint=looks)

    def action_tint_scale(self) -> None:
        self.app.show(relative=not self.app.frame.relative)

    def action_unit(self) -> None:
        self.app.show(bits=not self.app.frame.bits)

    def action_raw(self) -> None:
        self.app.show(raw=not self.app.frame.raw)

    def action_copy(self) -> None:
        """One more letter says what."""
        if not self.app.frame.log.steps:
            self.app.refuse("nothing is written yet that could be copied")
            return
        from tui_entropy.ui.dialogs import clipboard

        self.app.ask("copy", self._copy, check=clipboard.remark, choices="".join(clipboard.COPIES))

    def _copy(self, letter: str) -> None:
        from tui_entropy.ui.dialogs import clipboard

        if copy := clipboard.COPIES.get(letter):
            frame, model = self.app.frame.looked_at, self.app.model_name
            copied = copy.text(frame, model)
            self.app.copy_to_clipboard(copied)
            notes = [f"{len(copied)} characters", *copy.left_out(frame)]
            self.app.say(f"sent to the clipboard: {copy.about}, {', '.join(notes)}")


def _in_the_prompt(frame: Frame, query: str) -> str:
    """Where else a query is found."""
    began = frame.log.started
    if began is None or not acts(frame, "open.prompt"):
        return ""
    matches = Matches(query)
    matches.update([token.text for token in began.prompt_tokens])
    return "; its prompt has it: {open.prompt} opens the prompt token by token" if matches.spans else ""


def _found(frame: Frame, query: str) -> str:
    """How often a query is found, while it is typed."""
    if not query:
        return "small letters find capitals too; nothing goes back to hot tokens"
    return count(replace(frame, cursor=None, **frame.put(JumpState, kind=MATCHES, query=query)))
