"""`s2s models`: lists the models that come with the package, or prints the card of one."""

import click

from seq2seq_kit.cli.options import debug_option


@click.command
@click.argument("name", required=False)
@debug_option
def models(name: str | None) -> None:
    """List the models that come with the package, or print the card of NAME.

    Every command that reads a run accepts their names in place of RUN, and a config can start from
    one: `init_from: NAME`. A folder of the same name comes first.
    """
    from seq2seq_kit.pretrained.catalog import find_model, list_models, suggest_model

    if name is not None:
        click.echo(find_model(name).card, nl=False)
        return
    found = list_models()
    if not found:
        click.echo(suggest_model(""), err=True)
    for model in found:
        head = model.metadata
        click.echo(f"{model.name}: {head.summary}")
        scores = ", ".join(f"{name} {score}" for name, score in head.scores.items())
        for label, value in {
            "task": f"{head.task} ({', '.join(head.languages)})",
            "size": f"{model.size / 1e6:.1f} MB, {head.parameters:,} parameters",
            "data": head.data,
            "license": head.license,
            "scores": scores,
        }.items():
            click.echo(f"  {label:<8} {value}")
