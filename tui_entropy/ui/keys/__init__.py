"""Every key in one table, and what it needs."""
