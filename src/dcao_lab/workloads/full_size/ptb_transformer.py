"""Penn Treebank with the small Transformer of PyTorch's word_language_model example, for that example's 40 epochs.

No perplexity is published for it on this corpus. The target lies between the 5-gram model with Kneser-Ney smoothing
(141 on the test text, Mikolov et al. 2012) and the LSTM without dropout (about 120 on validation text, Zaremba et al.
2014).
"""

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.data.corpora import PTB
from dcao_lab.workloads.language_workload import WordWorkload
from dcao_lab.workloads.networks.language_transformer import CONTEXT, TransformerModel

BATCH_SIZE = 20
STEPS_PER_EPOCH = 1327  # 929 589 words

INFO = WorkloadInfo(
    name="ptb_transformer",
    title="Penn Treebank Transformer",
    summary=f"Penn Treebank by word, Transformer of 2 layers, width 200, context {CONTEXT}, batch {BATCH_SIZE}",
    metric="perplexity",
    higher_is_better=False,
    target=135.0,
    batch_size=BATCH_SIZE,
    num_steps=40 * STEPS_PER_EPOCH,
    eval_every=STEPS_PER_EPOCH,
    step_cost=250.0,
    needs=PTB.needs,
)

WORKLOAD = WordWorkload(info=INFO, source=PTB, build=TransformerModel, length=CONTEXT, is_recurrent=False)
