"""Snapshots and films of a recording, without a terminal."""
