"""Penn Treebank with the AWD-LSTM (Merity, Keskar and Socher, ICLR 2018).

Their recipe has 500 epochs of batches of 20 by 70 words; salesforce/awd-lstm-lm then reports a validation perplexity of
61.2 before fine-tuning (58.8 on the test text). The parts of it that belong to the optimizer or the loss and not to the
network are left out: averaged SGD, clipped gradients, activation regularisation and a weight decay of 1.2e-6. The
target allows for that.
"""

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.data.corpora import PTB
from dcao_lab.workloads.language_workload import WordWorkload
from dcao_lab.workloads.networks.awd_lstm import AWDLSTM, LSTMShape

LENGTH = 70
BATCH_SIZE = 20
STEPS_PER_EPOCH = 663  # 929 589 words
SHAPE = LSTMShape()

INFO = WorkloadInfo(
    name="ptb_lstm",
    title="Penn Treebank LSTM",
    summary=f"Penn Treebank by word, AWD-LSTM of 24.2 M parameters, {LENGTH} words at a time, batch {BATCH_SIZE}",
    metric="perplexity",
    higher_is_better=False,
    target=70.0,
    batch_size=BATCH_SIZE,
    num_steps=500 * STEPS_PER_EPOCH,
    eval_every=STEPS_PER_EPOCH,
    step_cost=3700.0,
    needs=PTB.needs,
)

WORKLOAD = WordWorkload(
    info=INFO, source=PTB, build=lambda num_words: AWDLSTM(num_words, SHAPE), length=LENGTH, is_recurrent=True
)
