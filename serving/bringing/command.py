"""``fusiontrade models``: bring models in, from checkpoints, a hub or a bucket; ``python -m serving.bringing`` too.

Exit codes are those of the other commands: 0 done, 1 refused, 2 wrong usage, 3 no valid credentials, 4 no such thing,
5 not available now, or a library that it needs is not here. The folder that was written goes to stdout, everything
else to stderr.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fusiontrade.errors import FusionTradeError, InvalidInput, NotFound, Unauthenticated, Unavailable

__all__ = ["app"]

_FAILED, _USAGE, _NOT_SIGNED_IN, _NOT_FOUND, _UNAVAILABLE = 1, 2, 3, 4, 5

app = typer.Typer(
    name="models",
    help="Bring models in: from checkpoints, a hub or a bucket.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Out = Annotated[Path, typer.Option("--out", help="Folder of bundles; the new one goes below it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another bundle of the same name.")]
Name = Annotated[str, typer.Option("--name", help="The bundle's name.")]
From = Annotated[str, typer.Option("--from", help=r"OWNER/NAME\[@REVISION] it came from, noted in the card.")]


@app.command()
def import_kronos(  # noqa: PLR0917 - its options
    folder: Annotated[Path, typer.Argument(help="Checkpoint with the folders tokenizer/ and model/.")],
    out: Out,
    tokenizer: Annotated[Path | None, typer.Option(help="The tokenizer's folder, if it is elsewhere.")] = None,
    bars: Annotated[int, typer.Option(help="Bars of a window.")] = 120,
    name: Name = "kronos",
    source: From = "",
) -> None:
    """Make a bundle of a Kronos checkpoint: verify it, export it to ONNX, and compare both."""
    with _failures_are_exits():
        from serving.bringing.hub import Repository
        from serving.bringing.kronos import import_kronos as imported
        from serving.bringing.placing import alone

        said = Repository.parse(source) if source else None
        decoder = folder / "model" if (folder / "model").is_dir() else folder
        if tokenizer is None and folder.is_dir() and not (folder / "tokenizer").is_dir():
            told = "a decoder's tokenizer is a repository of its own: name its folder with --tokenizer"
            raise InvalidInput("--tokenizer", f"{folder} holds no folder tokenizer; {told}")
        with alone(out):
            written = imported(
                tokenizer or folder / "tokenizer",
                decoder,
                out,
                model_id=name,
                sequence=bars,
                repository=str(said or ""),
                revision=(said and said.revision) or "",
            )
        _tell_agreement(written)


@app.command()
def import_finbert(
    folder: Annotated[Path, typer.Argument(help="Hugging Face sequence classifier: weights, tokenizer, labels.")],
    out: Out,
    name: Name = "finbert",
    source: From = "",
) -> None:
    """Make a bundle of a classifier of positive, negative and neutral: verify, export and compare it."""
    with _failures_are_exits():
        from serving.bringing.classifier import import_classifier
        from serving.bringing.hub import Repository
        from serving.bringing.placing import alone

        said = Repository.parse(source) if source else None
        revision = (said and said.revision) or ""
        with alone(out):
            written = import_classifier(folder, out, model_id=name, repository=str(said or ""), revision=revision)
        _tell_agreement(written)


@app.command()
def pull(
    context: typer.Context,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME[@REVISION]", help="The hub's repository.")],
    out: Out,
    overwrite: Overwrite = False,
    account: Annotated[
        str | None, typer.Option(metavar="EMAIL", help="With the hub token of this account of the stack.")
    ] = None,
) -> None:
    """Fetch a bundle or a checkpoint from a hub (HF_ENDPOINT), with an account's token or HF_TOKEN where it is set."""
    with _failures_are_exits():
        from serving.bringing.hub import HUB, Repository
        from serving.bringing.hub import pull as pulled

        token = os.environ.get("HF_TOKEN", "").strip() or None
        if account is not None:
            if (accounts := getattr(context.obj, "hub_token", None)) is None:
                raise InvalidInput("--account", "accounts are known to the command fusiontrade models pull alone")
            token = accounts(account)
        endpoint = os.environ.get("HF_ENDPOINT") or HUB
        folder = pulled(
            Repository.parse(repository),
            out,
            token=token,
            endpoint=endpoint.rstrip("/"),
            overwrite=overwrite,
            tell=_tell,
        )
        typer.echo(folder)


@app.command()
def sync(
    context: typer.Context,
    manifest: Annotated[str, typer.Argument(help="https or s3 address, or file; the bundles lie beside it.")],
    out: Out,
    overwrite: Overwrite = False,
) -> None:
    """Bring the bundles of a manifest here, each file checked by its sha256; what is here already stays."""
    with _failures_are_exits():
        from serving.bringing.syncing import sync as synced

        done = synced(manifest, out, overwrite=overwrite, tell=_tell, buckets=getattr(context.obj, "bucket", None))
        for folder in done.kept:
            _tell(f"{folder.name} is here already")
        for folder in (*done.fetched, *done.kept):
            typer.echo(folder)


@app.command()
def manifest(folder: Annotated[Path, typer.Argument(help="Folder of bundles.")]) -> None:
    """Print the manifest by which others can sync the bundles of a folder; put it beside them."""
    with _failures_are_exits():
        from serving.bringing.syncing import listing_of

        typer.echo(json.dumps({"bundles": listing_of(folder)}, indent=1, sort_keys=True))


def _tell_agreement(folder: Path) -> None:
    """Say what an import made, how well it was proven and how long it took."""
    card, report, run = (
        json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("model", "report", "run")
    )
    size = (folder / "model.onnx").stat().st_size / 1e6
    _tell(f"{card['kind']} of {report['parameters']:,} parameters: {size:.1f} MB, {card['precision']}")
    if labels := card.get("labels"):
        _tell(f"columns: {', '.join(labels)}; texts are cut at {card['tokens']} tokens")
    else:
        _tell(f"windows of {card['sequence']} bars become {card['width']} values")
    agreement = report["agreement"]
    over = ", ".join(f"{agreement[name]} {name}" for name in ("texts", "windows", "undecided") if name in agreement)
    worst, limit = agreement["largest_difference"], agreement["tolerance"]
    _tell(f"ONNX Runtime differs from torch by {worst:.1e} at most (limit {limit:.0e}) over {over}")
    _tell(f"took {run['seconds']:.0f} s")
    typer.echo(folder)


def _tell(text: str) -> None:
    """Say it to whoever sits there; names from files and hubs may hold what a terminal would obey."""
    typer.echo("".join(one if one.isprintable() else "?" for one in text), err=True)


@contextmanager
def _failures_are_exits() -> Iterator[None]:
    """Turn an error of the product into a sentence and an exit code; a failed proof is one, too."""
    try:
        try:
            yield
        except ModuleNotFoundError as error:
            made = "python3 infra/environment.py train, then .venv/train/bin/fusiontrade models"
            told = f"{error.name} is not installed here: use an environment of the repository that has it: {made} …"
            raise Unavailable(told) from None
        except ImportError as error:  # of a library that lacks a part of itself, as for a SOCKS proxy
            raise Unavailable(str(error)) from None
        except Exception as error:
            if type(error).__name__ != "ExportFailure":  # its module needs torch
                raise
            raise FusionTradeError(str(error)) from None
    except OSError as error:  # a full disk, a folder of somebody else
        _tell(f"fusiontrade models: {error.filename or 'the folder'} cannot be used: {error.strerror or error}")
        raise typer.Exit(_UNAVAILABLE) from None
    except FusionTradeError as error:
        _tell(f"fusiontrade models: {error}")
        raise typer.Exit(_code(error)) from None


def _code(error: FusionTradeError) -> int:
    codes = {InvalidInput: _USAGE, Unauthenticated: _NOT_SIGNED_IN, NotFound: _NOT_FOUND, Unavailable: _UNAVAILABLE}
    return next((code for kind, code in codes.items() if isinstance(error, kind)), _FAILED)
