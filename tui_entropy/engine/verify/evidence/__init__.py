"""The evidence that checks look at: texts written for it, their steps, and plain passes over them."""
