"""How unsure a model was of a sentence: scores of the whole of it, under the names of lm-polygraph."""
