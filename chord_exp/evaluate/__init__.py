"""Score checkpoints on held-out prompts, with intervals and beside the base model.

target   what is to be scored: the checkpoints of a run, or a folder of weights; from where its settings come
scores   from answers to means, intervals and differences; pure
show     the table and the curve
"""
