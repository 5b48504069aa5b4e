"""Generated gRPC stubs of the package cascade.v1; made by `make proto`, never edited."""
