"""Measures what a user of the service cares about and no single score tells, for instance how easily it is evaded."""
