"""The command `hedgespec bench`: benchmarks that compare side by side in one run, as tables and JSON."""

from __future__ import annotations

import typer

from deployments.commands.bench_acceptance import acceptance
from deployments.commands.bench_decode import decode
from deployments.commands.bench_engine import engine
from deployments.commands.bench_figures import figures
from deployments.commands.bench_heads import heads
from deployments.commands.bench_learner import learner
from deployments.commands.bench_overheads import overheads
from deployments.commands.bench_policies import policies
from deployments.commands.bench_rpc import rpc
from deployments.commands.bench_serve import serve
from deployments.commands.bench_synthetic import synthetic

app = typer.Typer(no_args_is_help=True, help="Measure speed and acceptance, side by side in one run.")
for command in (decode, policies, serve, acceptance, overheads, rpc, engine, heads, synthetic, learner, figures):
    app.command()(command)
