"""Measures stages and the cascade on labelled sets: rows -> *score* -> *metrics* -> report. Decides nothing."""
