"""What every part of the screen can count on."""
