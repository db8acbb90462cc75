"""How sure a model was, whether it was right, and the temperature under which the two fit."""
