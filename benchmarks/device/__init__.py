"""``fbkit bench device``: how fast a bundle opens, predicts and learns on the machine where this runs.

It needs the base install only; the native runner has the same as ``fbkit-device bench``, with the same result.
"""
