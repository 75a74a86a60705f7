"""MLflow: a benchmark is a parent run, a method a child run, a fold or trial a grandchild run.

What is logged of a fold comes from the result store, never from the training, and only if it is not
in MLflow yet. So a resumed run also logs what an interrupted one left out, a repeated run logs
nothing twice, and what a server missed can be logged later.
"""
