"""What the charts over time share: one axis, the curve of a metric, and the changes that stand below."""
