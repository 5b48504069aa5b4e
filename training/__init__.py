"""Training of the stages: data, recipes, one loop, export and calibration. Needs the extra ``train``."""
