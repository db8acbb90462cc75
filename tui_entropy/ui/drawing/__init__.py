"""Pure drawing: numbers to cells, text to rows, themes."""
