"""Other servers of the same model under the same load: *peer* -> environment -> process -> goodput."""
