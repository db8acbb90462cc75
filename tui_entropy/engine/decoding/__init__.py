"""The loop: a prompt read, a token chosen, one step out for each."""
