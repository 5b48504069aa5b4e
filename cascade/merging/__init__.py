"""How scores become one answer: *windows* -> text -> *stages* -> content -> verdict and action."""
