"""Texts by the hundred without a screen: where they come from, what is reckoned of them, and what is written."""
