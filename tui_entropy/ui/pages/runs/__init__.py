"""Pages on other runs and lanes: branches, what tells them apart, a shadow or a twin, continuations."""
