"""How much a server answers in time: *rate, lengths* -> arrivals -> calls -> goodput at a latency limit."""
