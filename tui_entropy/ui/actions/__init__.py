"""The actions of the keys."""
