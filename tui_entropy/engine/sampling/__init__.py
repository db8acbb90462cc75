"""From logits to a token: the ordered stages, what each did, and the draw."""
