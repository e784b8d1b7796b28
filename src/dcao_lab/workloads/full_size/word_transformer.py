"""Penn Treebank and WikiText-2 with the small Transformer of PyTorch's word_language_model example: two workloads.

Both are trained for the 40 epochs of that example. No perplexity is published for it on either corpus. The target on
Penn Treebank lies between the 5-gram model with Kneser-Ney smoothing (141 on the test text, Mikolov et al. 2012) and
the LSTM without dropout (about 120 on validation text, Zaremba et al. 2014). The target on WikiText-2 is one that an
unregularised network of this size can reach, far from the 108.7 on validation text of a well-regularised LSTM (Merity
et al. 2017).
"""

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.data.corpora import PTB, WIKITEXT2
from dcao_lab.workloads.data.textfiles import TextSource
from dcao_lab.workloads.language_workload import WordWorkload
from dcao_lab.workloads.networks.language_transformer import CONTEXT, TransformerModel

BATCH_SIZE = 20
NUM_EPOCHS = 40


def _workload(
    name: str, corpus: str, source: TextSource, *, target: float, steps_per_epoch: int, step_cost: float
) -> WordWorkload:
    info = WorkloadInfo(
        name=name,
        title=f"{corpus} Transformer",
        summary=f"{corpus} by word, Transformer of 2 layers, width 200, context {CONTEXT}, batch {BATCH_SIZE}",
        metric="perplexity",
        higher_is_better=False,
        target=target,
        batch_size=BATCH_SIZE,
        num_steps=NUM_EPOCHS * steps_per_epoch,
        eval_every=steps_per_epoch,
        step_cost=step_cost,
        needs=source.needs,
    )
    return WordWorkload(info=info, source=source, build=TransformerModel, length=CONTEXT, is_recurrent=False)


WORKLOADS = (
    _workload("ptb_transformer", "Penn Treebank", PTB, target=135.0, steps_per_epoch=1327, step_cost=250.0),
    _workload("wikitext2_transformer", "WikiText-2", WIKITEXT2, target=180.0, steps_per_epoch=2983, step_cost=870.0),
)
