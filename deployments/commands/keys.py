"""The command `hedgespec keys`: make API keys for the keys file."""

from __future__ import annotations

from typing import Annotated

import typer

from hedgespec.tenancy.keys import mint_key

app = typer.Typer(no_args_is_help=True, help="Make API keys for tenants.")


@app.command()
def new(tenant: Annotated[str, typer.Argument(help="Tenant id, as in the keys file.")]) -> None:
    """Print a new key, which is shown only once, and the lines for the keys file, which contain its hash."""
    secret, digest = mint_key()
    typer.echo(f"key (give it to the tenant; it cannot be shown again): {secret}")
    typer.echo(f'tenants:\n  - id: {tenant}\n    keys: ["{digest}"]')
