"""Bulk scoring, files in, files out: *IN* -> records -> pipeline -> *OUT.part* -> IN's rows with results -> *OUT*."""
