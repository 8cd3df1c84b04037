"""Experiments: recipes, cells, the grid, tuning, and the evaluation of finished networks."""
