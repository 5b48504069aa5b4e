"""Other protocols than our own gRPC services; each is a file that calls the one scoring function."""
