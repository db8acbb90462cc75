"""The settings of a person: what they may be, and the file that they are kept in."""
