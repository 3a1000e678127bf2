"""L2 assets off the automatic path: what ratings and edits of replies teach.

Belongs here: the adapter that learns from preference pairs.
Does not belong here: the loss and its loop (`lpm_kernel/L2/train_dpo.py`), keeping feedback (`lpm_kernel/stores/feedback.py`).
"""

from collections import Counter

import dagster as dg

from lpm_kernel.artefacts import encode_record, encode_records
from lpm_kernel.L0.embed import chunk_texts
from lpm_kernel.L0.library import fetch_texts
from lpm_kernel.L2.base_model import prepare_base
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.L2.golden import load_golden
from lpm_kernel.L2.picked_pairs import pairs_of_picks
from lpm_kernel.L2.preference_pairs import chunk_lines, keep_fitting, make_pairs
from lpm_kernel.L2.records import Adapter
from lpm_kernel.L2.train_dpo import learn_preferences
from lpm_kernel.L2.training_batches import MAX_ROW_TOKENS, row_counter
from lpm_kernel.layout import asset_key
from lpm_kernel.records import Chunk, sha256_hex
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.calibration import list_pairs
from lpm_kernel.stores.feedback import list_rated
from lpm_kernel.stores.users import get_user
from twin_assets.resources import StoresResource
from twin_assets.stages import Made, progress_of, stage


@stage(
    group="l2", io_manager_key="json", code_version="2", kinds={"s3", "postgres", "pytorch"}, automatic=False, pool="training"
)
def dpo(context: dg.AssetExecutionContext, stores: StoresResource, chunks: list[Chunk], lora_adapter: Adapter) -> Made:
    """An adapter that went on from the user's own on pairs of answers, of which they prefer one: an edit to what it was made
    from, a reply rated true to one rated down, an answer picked in a calibration to the one beside it. Without a pair it holds
    the reason and no adapter. It is made when somebody asks for it or by the weekly retraining; no release serves it yet. The
    pairs lie beside it as `preference_pairs`."""
    port, user_id = stores.stores, context.partition_key
    with port.tables.transaction(user_id) as connection:
        user, rated = get_user(connection, user_id), list_rated(connection, user_id)
        shown = list_pairs(connection, user_id)
    lines = chunk_lines(chunk_texts(chunks, fetch_texts(chunks, port.blobs)))
    golden = load_golden(port.blobs, user_id)
    pairs, refusals = make_pairs(user, rated, lines, golden, port.embedder)
    picked, unused = pairs_of_picks(user, shown, lines, golden, port.embedder, pairs)
    pairs, refusals = [*pairs, *picked], [*refusals, *unused]
    progress = progress_of(context)
    if pairs:
        count = row_counter(prepare_base(port.settings.models, cache_folder(), progress).hf_dir)
        pairs, too_long = keep_fitting(pairs, count, MAX_ROW_TOKENS)
        refusals += too_long
    TenantBlobs(port.blobs, user_id).put(asset_key(user_id, "preference_pairs", "jsonl"), encode_records(pairs))
    made = learn_preferences(
        user_id,
        pairs,
        refusals,
        lora_adapter,
        port.blobs,
        lambda: prepare_base(port.settings.models, cache_folder(), progress),
        port.settings.training,
        port.settings.dpo,
        progress,
    )
    if made.skipped:
        context.log.info(f"no adapter: {made.skipped}")
    adapter = made.adapter
    return Made(
        made,
        metadata={
            "skipped": made.skipped or "no",
            "pairs": len(pairs),
            **{f"pairs_by_{signal}": number for signal, number in made.pairs_by_signal.items()},
            "refused": dg.MetadataValue.json(dict(Counter(refusal.reason for refusal in refusals))),
            **(
                {"margin": adapter.margin, "accuracy": adapter.accuracy, "last_loss": adapter.loss_curve[-1]} if adapter else {}
            ),
        },
        version=sha256_hex(encode_record(made.adapter) if made.adapter else encode_records(pairs)),
    )
