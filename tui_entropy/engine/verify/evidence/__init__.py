"""What is checked: texts written for it, what was told of them, and plain passes over them."""
