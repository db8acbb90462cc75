"""Embeddings as a space of meanings: what is nearest to a vector, analogies, and what they say of the next token."""
