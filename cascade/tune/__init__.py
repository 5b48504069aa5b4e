"""Fits a policy to labelled texts and certifies it: rows -> *score* -> *search* on one half -> *test* on the other."""
