"""Real federation over Flower: silos keep their pictures, and only weights and a few numbers travel.

``server_app`` and ``client_app`` are the two ends that Flower starts, ``messages`` is how letters travel through it.
Only these three import Flower, which comes with the extra ``flower``. The rest knows nothing of it: ``federate`` is a
run as the server sees it, ``silo`` is what a silo does with a letter.
"""
