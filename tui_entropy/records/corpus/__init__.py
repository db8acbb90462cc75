"""What is told of many texts together."""
