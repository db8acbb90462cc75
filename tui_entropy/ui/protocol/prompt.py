"""Prompt: what was typed into the box, and what the box is for."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct


class Prompt(Struct, frozen=True):
    prompt: str
    system: str | None
    chat: bool
    read: bool = False
    """It is a text that is read, and nothing is written behind it unasked."""


class Purpose(Enum):
    """The purpose of the prompt box, as its title says it."""

    NEW = "new prompt"
    EDIT = "edit of the written text: it is kept up to the first change, and the model goes on after your last word"
    PROMPT = "edit of the prompt: the answer is written anew"
    LANE = "prompt of the other lane"
