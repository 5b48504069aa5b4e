"""Asks a language model about many texts through Anthropic's Message Batches: estimate, submit, pick up, meter."""
