"""Cascade: a two-stage text-safety service."""
