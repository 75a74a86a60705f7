"""The HMIL paper's tables and figures, and a study on simulated data, as protocol files (TOML).

``mil-bench reproduce NAME`` runs ``NAME.toml``. A file says which methods with which settings are
the rows (``rows = "all"``: all built-in methods), on which datasets, by which protocol, which
metrics are shown, which published values are known and how, and which questions the verdicts
answer. The paper itself could not be read: a value that no file gives is not available.
"""
