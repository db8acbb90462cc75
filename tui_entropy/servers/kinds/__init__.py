"""Kinds of servers: how each is recognised, asked and understood; a file for each."""
