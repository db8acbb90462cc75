"""Commands on many texts together."""
