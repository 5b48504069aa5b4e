"""DuoGuard: a decoder with 12 labels, of which the largest decides."""
