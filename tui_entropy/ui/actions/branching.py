"""Branches: to one, its name, its star, its end; what tells two apart."""

from __future__ import annotations

from tui_entropy.records.commands import Label
from tui_entropy.state.run_view import RunView
from tui_entropy.ui.keys.branch_choice import BranchesState, chosen
from tui_entropy.ui.protocol.actions import Actions, EngineActions
from tui_entropy.ui.protocol.host import Host
from tui_entropy.ui.views.frame import Frame


def chosen_branch(frame: Frame) -> RunView | None:
    """The one that is chosen on the page of branches."""
    return frame.log.runs.get(chosen(frame))


class BranchPageActions(Actions[Host]):
    """The actions on the page of branches."""

    commanding = frozenset({"go"})

    def action_go(self) -> None:
        app = self.app
        if (branch := chosen_branch(app.frame)) is None:
            return
        run = branch.started.run
        app.close_page()
        if run == app.frame.log.run_number:
            app.refuse(f"run {run} is the one on screen")
        else:
            app.go_to_run(run)

    def action_hidden(self) -> None:
        frame = self.app.frame
        self.app.show(**frame.put(BranchesState, hidden=not frame.of(BranchesState).hidden))

    def action_to_branches(self) -> None:
        self.app.open_page("branches")

    def action_diff(self) -> None:
        branch = chosen_branch(self.app.frame)
        if branch is None or branch is self.app.frame.log.run:
            self.app.refuse(
                "this is the run on screen: choose another one, and {branches.diff} shows where the two differ"
            )
            return
        self.app.show(**self.app.frame.put(BranchesState, branch=branch.started.run), row=0)
        self.app.open_page("diff")


class BranchActions(EngineActions):
    """The actions that change what is kept of a branch."""

    def action_star(self) -> None:
        if branch := chosen_branch(self.app.frame):
            self.app.tell(Label(branch.started.run, starred=not branch.starred))

    def action_delete(self) -> None:
        """Or show it again where it is hidden."""
        if (branch := chosen_branch(self.app.frame)) is None:
            return
        run = branch.started.run
        self.app.tell(Label(run, deleted=not branch.deleted))
        self.app.say(
            f"run {run} is shown again"
            if branch.deleted
            else f"run {run} is hidden: {{branches.hidden}} lists what is hidden"
        )

    def action_name(self) -> None:
        if branch := chosen_branch(self.app.frame):
            run = branch.started.run
            self.app.ask(
                f"name of run {run}:", lambda name: self.app.tell(Label(run, name=name.strip())), branch.name
            )
