"""The tables and figures of the HMIL paper as protocol files (TOML), and a study of its twin; no code.

``mil-bench reproduce NAME`` runs ``NAME.toml``. A file says which methods with which settings are
the rows, on which datasets, by which protocol, which metrics are shown, which published figures we
know and how, and which questions the verdicts answer. The paper itself could not be read: a cell
that no file lists is not available.
"""
