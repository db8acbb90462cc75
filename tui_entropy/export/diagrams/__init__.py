"""Diagrams: panels whose picture is more than a table or a grid, as shapes."""
