"""How many network evaluations do solvers of the probability flow take at equal error, on five problems?

Each peer solves the same images under the same experts from the same starts. Two errors are kept apart: the
discretisation error, against a very tight solution with the same probe, and the total error, against the
exact trace. Both are root mean squares over the images, in bits/dim.
"""
