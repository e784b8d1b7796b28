"""WikiText-2 for a CPU: the small Transformer and a small LSTM, in batches of 10, judged by 10 000 words.

The Transformer is that of ``wikitext2_transformer``. The LSTM has the two layers of the "small" one of Zaremba et al.
2014, also without dropout, but a width of 128 in place of 200, and its decoder shares the word vectors (Press and Wolf
2017). Most of a step goes into the 33 278 words of the last layer, in both. No perplexity is published for either: the
targets are guesses at what a run of an epoch comes to.
"""

from collections.abc import Callable

from torch import nn

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.data.corpora import WIKITEXT2
from dcao_lab.workloads.language_workload import WordWorkload
from dcao_lab.workloads.networks.awd_lstm import AWDLSTM, LSTMShape
from dcao_lab.workloads.networks.language_transformer import CONTEXT, TransformerModel

BATCH_SIZE = 10
STEPS_PER_EPOCH = 2_088_628 // (BATCH_SIZE * CONTEXT)
NUM_EVALUATED = 10_000
WIDTH = 128
NO_DROPOUT = {f"{place}_dropout": 0.0 for place in ("word", "input", "hidden", "output", "weight")}
LSTM_SHAPE = LSTMShape(embedding=WIDTH, width=WIDTH, num_layers=2, **NO_DROPOUT)


def _workload(
    network: str, summary: str, build: Callable[[int], nn.Module], *, is_recurrent: bool, step_cost: float
) -> WordWorkload:
    info = WorkloadInfo(
        name=f"wikitext2_small_{network.lower()}",
        title=f"WikiText-2 small {network}",
        summary=f"WikiText-2 by word, {summary}, {CONTEXT} words at a time, batch {BATCH_SIZE}",
        metric="perplexity",
        higher_is_better=False,
        target=300.0,
        batch_size=BATCH_SIZE,
        num_steps=STEPS_PER_EPOCH,
        eval_every=STEPS_PER_EPOCH // 10,
        step_cost=step_cost,
        needs=WIKITEXT2.needs,
    )
    return WordWorkload(
        info=info,
        source=WIKITEXT2,
        build=build,
        length=CONTEXT,
        is_recurrent=is_recurrent,
        num_evaluated=NUM_EVALUATED,
    )


WORKLOADS = (
    _workload(
        "Transformer",
        "Transformer of 2 layers, width 200",
        TransformerModel,
        is_recurrent=False,
        step_cost=250.0,
    ),
    _workload(
        "LSTM",
        f"LSTM of 2 layers, width {WIDTH}",
        lambda num_words: AWDLSTM(num_words, LSTM_SHAPE),
        is_recurrent=True,
        step_cost=140.0,
    ),
)
