"""Requests of applications to a server of theirs, as runs: what was asked, and what was answered token by token."""
