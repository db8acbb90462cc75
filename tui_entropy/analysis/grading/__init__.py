"""Grading: how well uncertainty scores tell sentences that are wrong from those that are right."""
