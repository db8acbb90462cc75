"""The metrics: what a number is, its name, unit and distribution, and how it is read off a step."""
