"""The messages of the contract. All but this file and _pool.py is made by generate.py."""
