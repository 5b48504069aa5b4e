"""Whether a request goes on to stage 2, and why."""
