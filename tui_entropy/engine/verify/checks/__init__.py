"""The checks of the self-check, a file for each part of a step."""
