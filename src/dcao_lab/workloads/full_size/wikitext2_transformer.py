"""WikiText-2 with the small Transformer of PyTorch's word_language_model example, for that example's 40 epochs.

No perplexity is published for it on this corpus. The target is one that an unregularised network of this size can
reach, far from the 108.7 on validation text of a well-regularised LSTM (Merity et al. 2017).
"""

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.data.corpora import WIKITEXT2
from dcao_lab.workloads.language_workload import WordWorkload
from dcao_lab.workloads.networks.language_transformer import CONTEXT, TransformerModel

BATCH_SIZE = 20
STEPS_PER_EPOCH = 2983  # 2 088 628 words

INFO = WorkloadInfo(
    name="wikitext2_transformer",
    title="WikiText-2 Transformer",
    summary=f"WikiText-2 by word, Transformer of 2 layers, width 200, context {CONTEXT}, batch {BATCH_SIZE}",
    metric="perplexity",
    higher_is_better=False,
    target=180.0,
    batch_size=BATCH_SIZE,
    num_steps=40 * STEPS_PER_EPOCH,
    eval_every=STEPS_PER_EPOCH,
    step_cost=870.0,
    needs=WIKITEXT2.needs,
)

WORKLOAD = WordWorkload(info=INFO, source=WIKITEXT2, build=TransformerModel, length=CONTEXT, is_recurrent=False)
