"""Rows in the uniform form, what their labels mean, and how they are split and drawn."""
