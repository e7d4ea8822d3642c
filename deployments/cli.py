"""The command `hedgespec`, with its short subcommands; the others have modules of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from deployments.commands import bench, models, simulate
from deployments.commands.generate import generate
from deployments.commands.training import train_drafter, zoo_app
from deployments.serve_command import EXIT_CONFIG, serve
from hedgespec.errors import ConfigError, HedgeSpecError, ModelFolderError
from hedgespec.tenancy.keys import mint_key

EXIT_FAILED = 1

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Lossless speculative decoding with several drafters and a learner that chooses among them.",
)
config_app = typer.Typer(no_args_is_help=True, help="Check configuration files.")
keys_app = typer.Typer(no_args_is_help=True, help="Make API keys for tenants.")

app.command()(serve)
app.command()(generate)
app.command()(train_drafter)
app.add_typer(bench.app, name="bench")
app.add_typer(config_app, name="config")
app.add_typer(keys_app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(simulate.app, name="simulate")
app.add_typer(zoo_app, name="zoo")


@config_app.command()
def check(file: Annotated[Path, typer.Argument(help="Configuration, or a Serve config that contains it.")]) -> None:
    """Check a configuration file and list everything that is wrong with it."""
    from deployments.app import drafter_pools
    from deployments.commands.inputs import read_args
    from hedgespec.assembly.model_sources import check_sources

    args = read_args(file)
    drafter_pools(args.drafters)
    if problems := check_sources(args):
        raise ConfigError("\n".join(problems))
    typer.echo(f"{file}: fine, {len(args.drafters)} drafters")


@keys_app.command()
def new(tenant: Annotated[str, typer.Argument(help="Tenant id, as in the keys file.")]) -> None:
    """Print a new key, which is shown only once, and the lines for the keys file, which contain its hash."""
    secret, digest = mint_key()
    typer.echo(f"key (give it to the tenant; it cannot be shown again): {secret}")
    typer.echo(f'tenants:\n  - id: {tenant}\n    keys: ["{digest}"]')


@app.command()
def version() -> None:
    """Print the installed version."""
    from importlib.metadata import version as installed

    typer.echo(installed("hedgespec"))


def main() -> None:
    """Run the command line. Our own errors are printed without a traceback.

    Exit codes: EXIT_CONFIG for a configuration (one line per problem), EXIT_CONFIG + 1 for a model folder, else EXIT_FAILED.
    """
    try:
        app()
    except ConfigError as error:
        for line in str(error).splitlines():
            print(f"config error: {line}", file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    except ModelFolderError as error:
        print(f"model error: {error}", file=sys.stderr)
        sys.exit(EXIT_CONFIG + 1)
    except HedgeSpecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
