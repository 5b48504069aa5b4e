"""``python -m cascade.cli``: the command where its script is not on the path."""

from cascade.cli import main

main()
