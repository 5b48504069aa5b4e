"""What the service tells about itself: JSON logs on stderr and Prometheus metrics, neither with anybody's text."""
