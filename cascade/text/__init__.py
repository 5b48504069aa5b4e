"""What a text is read as: itself, and the plain form under its disguises."""
