"""The gRPC server: bytes -> *wire* -> request -> *calls* -> pipeline -> response or ``google.rpc.Status``."""
