"""How fast does personalization converge? Accuracy and loss of held-out clients, against what it took to get there.

``plan`` says what is compared, ``sources`` makes the bundles, ``measure`` personalizes one client, ``comparison`` does
it for everybody and keeps what was measured, ``groups`` says it in a few numbers.
"""
