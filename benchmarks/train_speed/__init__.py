"""``fbkit bench train``: how fast fbkit trains, beside the bare loop and other simulators, on one workload.

workload.py makes the folder that every contender reads; contender.py runs one, each in a process of its own, and
watches its memory; fbkit_contender.py and bare_loop.py are two of them, ../rivals/ has the others.
"""
