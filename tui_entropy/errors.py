"""What the person at the keyboard can put right."""


class UserError(Exception):
    """One sentence: what was found, what was wanted, what to do. Shown as it is, without a traceback."""
