"""A stage in another process or on another machine, over ``cascade.v1.StageService``."""
