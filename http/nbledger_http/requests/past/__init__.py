"""What requests ask for of the past."""
