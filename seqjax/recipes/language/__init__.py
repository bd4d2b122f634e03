"""What recipes of language share: texts as numbers, floors to beat, and what a trained model is asked.

In order of reading:

- `text`: a text that every machine has, windows of a text, its score, writing on; `ngrams`: models that count, to beat;
- `characters`: the model of ``charlm``, and how ``sample``, ``score`` and ``wordlm`` read a run of it back;
- `words`: a text as sentences of words, `salads` one by rule; `pieces`: words in byte pairs;
- `word_model`: the model of ``wordlm``; `speaker`: next words and sentences of it;
- `pairs`: a text written from another, and whole answers compared; `translators`: two ways to translate;
- `states`: what the states of a hidden Markov model of a text stand for;
- `tagging`: a tag a word, and how good tags are; `tagger`: the model of ``tag``; `textbook`: one thought out by hand;
- `transcripts`: what was said beside what was heard; `spoken`: sentences of `salads`, where a pair sounds like a pear.

A pair on its way to a network that reads one text and writes another. Time leads, so a column is an example; what is
written starts with ``<bos>``, and what is to be written ends with ``<eos>``:

>>> from seqjax.recipes.language.pairs import Pairs
>>> from seqjax.tasks import Pair
>>> sums = [Pair("2+9", "11"), Pair("30+40", "70")]
>>> pairs = Pairs.of("0123456789+", "0123456789", sums)
>>> (source, written), to_write, mask, *_ = pairs.batch(sums)
>>> source.symbols.shape, source.mask[:, 0].tolist()
((5, 2), [True, True, True, False, False])
>>> [[pairs.target.symbols[number] for number in column] for column in (written[:, 0], to_write[:, 0])]
[['<bos>', '1', '1'], ['1', '1', '<eos>']]
"""
