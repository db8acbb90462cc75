"""The screen of results: curves beside a table whose rows open, at last into the inspector."""
