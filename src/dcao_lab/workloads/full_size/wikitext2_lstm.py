"""WikiText-2 with the AWD-LSTM (Merity, Keskar and Socher, ICLR 2018).

Their recipe has 750 epochs of batches of 80 by 70 words; salesforce/awd-lstm-lm then reports a validation perplexity of
68.7 before fine-tuning (65.6 on the test text). The same parts are left out as in ``ptb_lstm``.
"""

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.data.corpora import WIKITEXT2
from dcao_lab.workloads.language_workload import WordWorkload
from dcao_lab.workloads.networks.awd_lstm import AWDLSTM, LSTMShape

LENGTH = 70
BATCH_SIZE = 80
STEPS_PER_EPOCH = 372  # 2 088 628 words
SHAPE = LSTMShape(input_dropout=0.65, hidden_dropout=0.2)

INFO = WorkloadInfo(
    name="wikitext2_lstm",
    title="WikiText-2 LSTM",
    summary=f"WikiText-2 by word, AWD-LSTM of 33.6 M parameters, {LENGTH} words at a time, batch {BATCH_SIZE}",
    metric="perplexity",
    higher_is_better=False,
    target=80.0,
    batch_size=BATCH_SIZE,
    num_steps=750 * STEPS_PER_EPOCH,
    eval_every=STEPS_PER_EPOCH,
    step_cost=18_000.0,
    needs=WIKITEXT2.needs,
)

WORKLOAD = WordWorkload(
    info=INFO, source=WIKITEXT2, build=lambda num_words: AWDLSTM(num_words, SHAPE), length=LENGTH, is_recurrent=True
)
