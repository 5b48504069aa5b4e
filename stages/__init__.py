"""What a classifier is: taxonomies, the Stage protocol, runtimes, and one folder for each system."""
