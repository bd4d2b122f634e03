"""Models: small networks for whole tasks, built from cells and layers, and what goes with them.

A model is a layer like any other; what a task needs besides is a loss that `seqjax.objective` and `seqjax.train_step`
take:

    >>> import jax, jax.numpy as jnp, seqjax as sj
    >>> from seqjax import models
    >>> model = models.classifier(models.deep(3, 8, cell=sj.gru, both_ways=True), 16, 2, pool="mean")
    >>> params = model.init(jax.random.key(0))
    >>> loss = sj.objective(model, models.one_answer(sj.cross_entropy))
    >>> batch = sj.Batch(jnp.ones((7, 2, 3)), jnp.array([0, 1]), lengths=jnp.array([7, 4]))
    >>> state, tally = loss(params, model.initial_state(params, (2,)), batch)
    >>> tally.count.item()
    2

In order of reading:

- `deep`: recurrent layers with dropout between them, what most models have in the middle. (body)
- `deep_blocks`: blocks in their place (deep_blocks), after published ones around any cell: `griffin_block`,
  `mamba_block`, `minimal_block`, `xlstm_block`, `s5_block`, and `attention_block` to measure them against. (blocks)
- One answer a sequence: `classifier`, with `one_answer` around a loss. (classifier)
- One answer a tick: `tagger`, `spelled_words` (tagger); `crf_tagger`, whose tags are chosen together (crf);
  `next_frame_model`, `forecaster` (frames), `nade`, whose features belong together (nade);
  `corrected`, whose network only corrects a line (autoregression).
- The next symbol: `language_model`, `fixed_window_model` (language_model); what it is used for: `log_probability`,
  `perplexity`, `rank`, `next_symbols` (scoring); large vocabularies: `full_softmax`, `adaptive_softmax`,
  `sampled_softmax`, `output_layer`, `output_objective` (softmax, outputs); published ones: `zaremba` (presets).
- Writing under a condition: `Conditional`, `conditional_objective` (conditional); `encoder_decoder`; `captioner`;
  trained on what it writes itself: `scheduled_sampling`, `scheduled_objective`, `inverse_sigmoid_decay`.
- Without recurrence: `temporal_convolution`, `temporal_block`, `receptive_field`.
- Several batches as one: `accumulated`.
"""

from seqjax.models.accumulated import accumulated
from seqjax.models.autoregression import CorrectedParams, CorrectedState, corrected, fitted
from seqjax.models.blocks import (
    attention_block,
    griffin_block,
    mamba_block,
    minimal_block,
    s5_block,
    xlstm_block,
)
from seqjax.models.body import deep
from seqjax.models.captioner import captioner
from seqjax.models.classifier import ClassifierParams, ClassifierState, classifier, one_answer
from seqjax.models.conditional import Conditional, conditional_objective
from seqjax.models.crf import CRFTaggerParams, crf_objective, crf_tagger
from seqjax.models.deep_blocks import deep_blocks
from seqjax.models.encoder_decoder import DecoderParams, EncoderDecoderParams, Source, encoder_decoder
from seqjax.models.frames import draw_keys, forecaster, next_frame_model
from seqjax.models.language_model import NOTHING, fixed_window_model, language_model, symbols_or_nothing
from seqjax.models.nade import Nade, NadeParams, nade
from seqjax.models.outputs import output_layer, output_objective
from seqjax.models.presets import Preset, zaremba
from seqjax.models.scheduled_sampling import inverse_sigmoid_decay, scheduled_objective, scheduled_sampling
from seqjax.models.scoring import NextSymbols, log_probability, next_symbols, perplexity, rank
from seqjax.models.softmax import Softmax, adaptive_softmax, full_softmax, sampled_softmax
from seqjax.models.tagger import Words, spelled_words, tagger
from seqjax.models.temporal_convolution import receptive_field, temporal_block, temporal_convolution

__all__ = [
    "NOTHING",
    "CRFTaggerParams",
    "ClassifierParams",
    "ClassifierState",
    "Conditional",
    "CorrectedParams",
    "CorrectedState",
    "DecoderParams",
    "EncoderDecoderParams",
    "Nade",
    "NadeParams",
    "NextSymbols",
    "Preset",
    "Softmax",
    "Source",
    "Words",
    "accumulated",
    "adaptive_softmax",
    "attention_block",
    "captioner",
    "classifier",
    "conditional_objective",
    "corrected",
    "crf_objective",
    "crf_tagger",
    "deep",
    "deep_blocks",
    "draw_keys",
    "encoder_decoder",
    "fitted",
    "fixed_window_model",
    "forecaster",
    "full_softmax",
    "griffin_block",
    "inverse_sigmoid_decay",
    "language_model",
    "log_probability",
    "mamba_block",
    "minimal_block",
    "nade",
    "next_frame_model",
    "next_symbols",
    "one_answer",
    "output_layer",
    "output_objective",
    "perplexity",
    "rank",
    "receptive_field",
    "s5_block",
    "sampled_softmax",
    "scheduled_objective",
    "scheduled_sampling",
    "spelled_words",
    "symbols_or_nothing",
    "tagger",
    "temporal_block",
    "temporal_convolution",
    "xlstm_block",
    "zaremba",
]
