"""What a number is: name, unit, distribution, and how it is read off a step."""
