"""The published sets that ``cascade data import`` reads, one module each: *hub name or file* -> uniform rows."""
