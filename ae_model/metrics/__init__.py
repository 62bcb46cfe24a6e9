"""How good a model is, against labels and clean originals: arrays in, numbers out."""
