"""Record real answers once, then replay any policy on them exactly and fast (`hedgespec simulate`).

recording.py  what is kept of an answer: how every drafter would have fared on every verified token
record.py     decode held-out prompts and keep it
replay.py     decode the same texts again under another policy
hindsight.py  the passes of fixed drafters and of the best choices in hindsight, without drawing anything
policies.py   who drafts: fixed, random, by a learner's weights; bandits.py: by their own outcomes
studies/      the questions that were asked, one function each
"""
