"""Stage 1 of a run: the autoencoder that it starts from, loaded, trained, or left at its random start."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation.runs.progress import ProgressBar
from learned_aggregation.split import store
from learned_aggregation.split.activations import Source, activations, chosen_rows, compute
from learned_aggregation.split.array_file import tree_hash
from learned_aggregation.split.bottlenecks.base import Autoencoder
from learned_aggregation.split.boundary import Boundary, apart
from learned_aggregation.split.model import SplitModel
from learned_aggregation.split.options import DISTRIBUTED, SplitOptions
from learned_aggregation.split.pretraining import MEASURED, Recipe, Reconstruction, pretrain, reconstruction
from learned_aggregation.types import Aggregator, Params, Theta, Traffic


class Whose(NamedTuple):
    """Whether there is one encoder for all clients, and one decoder."""

    one_encoder: bool
    one_decoder: bool


class Plan(NamedTuple):
    """How stage 1 is done.

    rule, division: what the aggregator and the partition are, for the autoencoder's name.
    ae_dir: of trained autoencoders. kept: of activations.
    """

    options: SplitOptions
    whose: Whose
    aggregator: Aggregator
    theta: Theta
    rule: Mapping[str, Any]
    division: Mapping[str, Any]
    ae_dir: Path
    kept: Path
    seed: int


class Data(NamedTuple):
    """A training split: the cut model over it, its name, its examples, the rows of each client.

    digest: of a user's data set, see `data.digest`.
    """

    model: SplitModel
    name: str
    examples: Mapping[str, Any]
    rows: Sequence[np.ndarray]
    digest: str | None = None


class Stage(NamedTuple):
    """What stage 1 found.

    autoencoder: leaves [C, ...] of what there is one of for each client. origin: "trained", "loaded", "random" or
    "none"; path: its directory, where it has one. errors: on the downstream clients. traffic: bits per client.
    """

    autoencoder: Autoencoder
    whose: Whose
    origin: str
    path: str
    errors: Reconstruction
    traffic: Traffic


def stage_one(
    plan: Plan, boundary: Boundary, base: Params, data: Data, downstream: Data, say: Callable[[str], None]
) -> Stage:
    """The autoencoder of a run.

    With identity there is nothing to train. Without `ae_pretrain` every client has the random start. Else it is loaded
    from `ae_path`, or found in `ae_dir` by all that it depends on, or trained there.

    Args:
      data: what it is trained on; downstream: what stage 2 trains on, whose clients' errors are measured.
    Raises:
      UserError: an `ae_path` with another autoencoder. RunError: the disk refused, no finite error.
    """
    options, model = plan.options, downstream.model
    bottleneck, key = boundary.bottleneck, jax.random.key(plan.seed)
    start = bottleneck.init(jax.random.fold_in(key, 1))
    if not jax.tree.leaves(start):
        return _measured(start, Whose(True, True), "none", "", Traffic(0.0, 0.0), boundary, base, downstream)
    if not options.ae_pretrain:
        spread = _for_each(start, plan.whose, len(downstream.rows))
        return _measured(spread, plan.whose, "random", "", Traffic(0.0, 0.0), boundary, base, downstream)
    own = data.name == downstream.name
    say(
        "autoencoder: using downstream dataset (option 2)"
        if own
        else f"autoencoder: using dataset {data.name} (option 1)"
    )
    signature = store.Signature(
        options.bottleneck,
        data.name,
        options.ae_proportion,
        data.model.name,
        options.split_layer,
        model.halves.cut.width,
        options.latent_dim,
    )
    template = _for_each(start, plan.whose, len(downstream.rows))
    if options.ae_path is not None:
        found = store.load(options.ae_path, signature, template)
        say(f"autoencoder: loaded {found.path}")
    else:
        found = store.find_or_train(
            plan.ae_dir,
            signature,
            _details(plan, boundary, base, data.digest),
            template,
            lambda: _train(plan, boundary, base, data, key, say),
            retrain=options.ae_force_retrain,
            say=say,
        )
    sent = Traffic(*found.results.get("bits_per_client", (0.0, 0.0)))
    origin = "trained" if found.trained else "loaded"
    loaded = jax.tree.map(jnp.asarray, found.autoencoder)
    return _measured(loaded, plan.whose, origin, str(found.path), sent, boundary, base, downstream)


def with_decoders(stage: Stage, clients: int) -> Stage:
    """The same autoencoder with a decoder for each client, which training along will make different."""
    if not stage.whose.one_decoder or not jax.tree.leaves(stage.autoencoder.decoder):
        return stage
    alone = Whose(True, False)
    decoder = _for_each(stage.autoencoder, alone, clients).decoder
    whose = stage.whose._replace(one_decoder=False)
    return stage._replace(autoencoder=stage.autoencoder._replace(decoder=decoder), whose=whose)


def _details(plan: Plan, boundary: Boundary, base: Params, data: str | None) -> dict[str, Any]:
    """All that an autoencoder depends on besides its signature."""
    options = plan.options
    recipe = _recipe(options)._asdict()
    about = {"weights": tree_hash(base), "seed": plan.seed, "class_token": boundary.token_crosses, **recipe}
    if options.ae_training == DISTRIBUTED:
        about |= {"decoders": options.decoders, **plan.rule, **plan.division}
    about |= {} if data is None else {"data": data}
    return {"training": options.ae_training, **about}


def _recipe(options: SplitOptions) -> Recipe:
    return Recipe(
        options.ae_epochs,
        options.ae_batch_size,
        options.ae_learning_rate,
        options.ae_learning_rate_end,
        options.val_mode,
        options.val_split,
        options.patience,
    )


def _train(
    plan: Plan, boundary: Boundary, base: Params, data: Data, key: Any, say: Callable[[str], None]
) -> tuple[Autoencoder, dict[str, Any]]:
    options, model = plan.options, data.model
    count = len(next(iter(data.examples.values())))
    chosen = chosen_rows(count, options.ae_proportion, plan.seed)
    source = Source(
        data.name,
        options.ae_proportion,
        model.name,
        tree_hash(base),
        model.split_layer,
        plan.seed,
        data.digest,
    )
    client = _client(data.model, base)
    found = activations(plan.kept, source, model, client, data.examples, chosen, say)
    tokens = np.asarray(apart(model, boundary, found)[1])  # pyright: ignore[reportArgumentType]
    place = np.full(count, -1)
    place[chosen] = np.arange(len(chosen))
    rows = [place[ids][place[ids] >= 0] for ids in data.rows]
    rows = [ids if len(ids) else place[chosen[:1]] for ids in rows]  # a share may leave a client nothing
    bar = ProgressBar("autoencoder", options.ae_epochs)
    try:
        trained = pretrain(
            boundary.bottleneck,
            tokens,
            rows,
            _recipe(options),
            plan.aggregator,
            plan.theta,
            plan.whose.one_decoder,
            key,
            lambda done, error: bar.update(done, {"error": f"{error:.4g}"}),
        )
    finally:
        bar.close()
    return trained.autoencoder, {
        "errors": trained.errors,
        "best_round": trained.best,
        "examples": len(chosen),
        "bits_per_client": list(trained.traffic),
    }


def _client(model: SplitModel, base: Params) -> Params:
    """The client's half of the base, whatever data set the model is over."""
    return model.part(base)[0]


def _for_each(start: Autoencoder, whose: Whose, clients: int) -> Autoencoder:
    """The same start for each client where each has its own."""

    def spread(tree: Params, one: bool) -> Params:
        if one:
            return tree
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (clients, *jnp.shape(leaf))), tree)

    return Autoencoder(spread(start.encoder, whose.one_encoder), spread(start.decoder, whose.one_decoder))


def _measured(
    autoencoder: Autoencoder,
    whose: Whose,
    origin: str,
    path: str,
    sent: Traffic,
    boundary: Boundary,
    base: Params,
    data: Data,
) -> Stage:
    """With the errors of every client's autoencoder on every downstream client's examples."""
    rows = [ids[np.linspace(0, len(ids) - 1, min(len(ids), MEASURED)).astype(int)] for ids in data.rows]
    ends = np.cumsum([len(ids) for ids in rows])
    found = compute(data.model, _client(data.model, base), data.examples, np.concatenate(rows))
    tokens = np.asarray(apart(data.model, boundary, found)[1])  # pyright: ignore[reportArgumentType]
    places = np.split(np.arange(ends[-1]), ends[:-1])
    errors = reconstruction(boundary.bottleneck, autoencoder, *whose, tokens, places)
    return Stage(autoencoder, whose, origin, path, errors, sent)
