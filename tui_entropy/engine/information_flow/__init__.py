"""Information flow: how much of what stands at a token came from which earlier one, followed back block by block."""
