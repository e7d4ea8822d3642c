"""Prompts that no drafter of the zoo was trained for: other languages and formats, and one domain after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice

from hedgespec.bench.answers import rotated

OUT_OF_DOMAIN = (
    "server:\n  listen: 127.0.0.1\n  port: 8080\nlogging:\n  level: info\n  rotate:\n    every: 24h\n    keep: 7\nqueues:\n",
    "<!doctype html>\n<html>\n<head>\n<title>Harbour</title>\n<style>\nbody { margin: 2em; color: #222; }\n.card {\n",
    '#!/bin/sh\nset -eu\nfor file in *.log; do\n  if [ -s "$file" ]; then\n    gzip -9 "$file"\n  fi\ndone\n',
    "\\section{Bounds}\nLet $X_1, ..., X_n$ be independent with $|X_i| \\le 1$. Then for all $t > 0$\n\\begin{equation}\n",
    "Monday 07:10 ferry to the island, rain until noon. Lunch with Aino at the mill; she has sold the boat. Tuesday",
    "(define (fold f init xs)\n  (if (null? xs)\n      init\n      (fold f (f init (car xs)) (cdr xs))))\n\n(define (",
)


def mixed(prompts: Mapping[str, Sequence[str]], count: int) -> list[str]:
    """Make `count` prompts, each a prompt of one domain followed by one of another domain."""
    domains = list(prompts)
    pairs = [(a, b) for shift in range(1, len(domains)) for a, b in zip(domains, rotated(domains, shift), strict=True)]
    return [
        f"{prompts[a][index % len(prompts[a])]}\n{prompts[b][index % len(prompts[b])]}"
        for index, (a, b) in enumerate(islice(cycle(pairs), count))
    ]
