"""The stages of the sampling chain: each with its knobs, its places in the orders, and two ways to what it does."""
