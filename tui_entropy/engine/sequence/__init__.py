"""The tokens of one run and all that later ones hang on."""
