"""MLflow: a parent run a benchmark, a child a method, a grandchild a fold or a trial.

What is logged of a fold comes from the result store, never from the training, and only if it is not
there yet. So a resumed run also logs what a killed one left out, a repeated one doubles nothing,
and what a dead server missed can be filled in later.
"""
