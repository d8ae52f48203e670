"""What a hand-written mix_chord configuration of Trinity would do, explained with its own numbers.

Trinity accepts many configurations that train something else than CHORD's objective, or end early, or fail in a worker
far from the cause. The rules here are pure: a configuration and what is known about its data in, findings out.
"""
