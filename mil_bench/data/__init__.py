"""Former names of three modules, for plugins written for mil-bench 0.1; new code does not use them.

The modules are now ``mil_bench.bags.batch``, ``mil_bench.bags.segments`` and
``mil_bench.hierarchy``.
"""
