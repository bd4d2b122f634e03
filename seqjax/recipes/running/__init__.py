"""How a recipe runs: what can be asked of it, the folder it leaves, and the loop that trains.

In order of reading:

- `options`: the options of every recipe, their checks, and `BadInput`, the one sentence a person gets;
- `run`: the folder of a run, by which it knows its options and its data again; `config`: how later versions read it;
  `checkpoints`: the states in it; `folders` and `lock`: one process in each; `files`: written whole or not at all;
- `trackers`: where a run's numbers go, JSON lines and a dashboard; `drawing`: figures, and the numbers behind each;
- `loop`: updates with a bar, records, checkpoints and Ctrl-C; `learning`: a model, a loss and
  an optimizer for that loop, by the names of `optimizers`; `courses`: who makes the updates, of one run or of several;
- `splits`: files that are split already, and the test, measured once;
- `seeds`: runs that differ in the seed, side by side, and their spread;
- `devices`: the cores that share a batch; `processes`: several of them, on one machine or on many, started by
  `launching`; `cache`: compiled programs, kept for the next start;
- `patience`: ending early, with the best parameters; `causes`: of numbers that are not finite; `forecasts`: those that
  nothing is trained for;
- `asking`: what a trained run can be asked, and how it replies;
- `cells`: recurrences by name; `beside`: several models on the same batches; `watch`: where the gradient goes.

A recipe in small: a network learns to repeat what it hears. With ``resume=options.run_dir`` and more steps, the same
lines go on behind the checkpoint of step 40.

>>> import jax, tempfile
>>> import seqjax as sj
>>> from seqjax.recipes.running import courses, learning, run
>>> options = learning.LearningOptions(steps=40, batch_size=8, learning_rate=0.1, run_dir=tempfile.mkdtemp())
>>> folder = run.Run.start("echo", options, {"symbols": 4})
>>> def batch_of(step):
...     heard = learning.generator(options, step).integers(0, 4, (10, 8))
...     return sj.Batch(heard, heard)
>>> model = sj.serial(sj.embedding(4, 8), sj.recurrent(sj.elman(8, 8)), sj.dense(8, 4))
>>> params = model.init(jax.random.key(0))
>>> state, asked = model.initial_state(params, (8,)), batch_of(None)
>>> def evaluate(params):
...     _, logits = model.apply(params, state, asked.xs)
...     return {"right": float((logits.argmax(-1) == asked.targets).mean())}
>>> start, objective = learning.begin(options, params, state), sj.objective(model, sj.cross_entropy)
>>> told = {"work": 8, "unit": "sequences", "show_evaluation": "{right:.0%} right", "evaluations": 1}
>>> @courses.trains
... def main(options):
...     outcome = yield from learning.learn(folder, options, start, objective, batch_of, evaluate=evaluate, **told)
>>> main(options)  # doctest: +ELLIPSIS
    40 steps  100% right  loss ... sequences/s norm ... clip ...
>>> folder.last_step(), folder.metrics()[-1]
(40, {'step': 40, 'right': 1.0})
"""
