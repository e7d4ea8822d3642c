"""Comparisons on the questions of a file: measured live (`bench policies`), or recorded once and replayed (`simulate`).

- A question goes through the target's chat template, generation prompt on, and is answered up to the end token or the limit.
- Each turn's prompt holds the same arm's earlier answers: the same text for every arm at temperature 0, its own above.
- A learner starts a turn from what its tenant's preference learned. By default every question is a tenant of its own, so
  that the order of the questions does not matter; `--tenant category` or `run` lets what was learned live on. Bandits start
  afresh.
- The best fixed drafter is that of each answer: live the drafter that alone had the most tokens per pass (above temperature
  0 on a text of its own, so that its luck counts in its favour), in a replay the one with the fewest expected passes.
- Arms share the models of one process, without the prefix cache; times include the prefill.
"""
