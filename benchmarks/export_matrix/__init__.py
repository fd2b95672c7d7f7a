"""``fbkit bench export``: every model, for every target, in every precision: what it weighs, costs and takes.

weights.py trains a model briefly, or gives it a random start; cells.py exports one; timing.py times a bundle's body in
a process of its own; results.py gathers what was found; report.py tells it. matrix.py does all of it, and goes on where
it stopped.
"""
