"""Programs that measure. Each runs as a module, from the root of the repository:

    python -m benchmarks.index --items 100000

Their rows lie in results/, as rows.py says; tables.py and the plots (plotting.py) are made from rows alone. report.py
writes rows and the line of BENCH; processes.py starts commands of ours.
"""
