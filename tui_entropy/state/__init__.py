"""Events folded into what a viewer needs, and two runs compared."""
