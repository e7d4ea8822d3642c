"""Simulation: record real answers once, then replay any policy on them exactly and fast (`hedgespec simulate`).

recording.py       the recording: how every drafter would have fared on every verified token of an answer
recorder.py        decodes held-out prompts and writes a recording
replay.py          decodes the recorded texts again under another policy
served.py          the same with the router's own learner, one answer at a time
hindsight.py       exact expected passes of fixed drafters and of the best choices in hindsight
policies.py        who drafts: a fixed drafter, a random one, or by a learner's weights
bandits.py         who drafts: by the outcomes of the rounds that a drafter has played
learned_weights.py a learner's weights along a recorded answer
studies/           the questions that were asked of a recording, one file each
goals.py           the values that the studies must reach (`hedgespec simulate check`)
"""
