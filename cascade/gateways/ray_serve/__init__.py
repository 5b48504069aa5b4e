"""The service as a Ray Serve application: Ray's gRPC proxy -> ingress (stage 1, pipeline) -> stage 2's deployment."""
