"""Texts that are there already, and prompts: the tokens that a run begins with, and what a server says of each."""
