"""What weight passports leave to a benchmark: the names of kinds, and one bias where a library has two."""

from typing import Any

import jax

from seqjax.interop.arrays import halves

KINDS = {"elman": "rnn_tanh", "lstm": "lstm", "gru": "gru"}


def one_bias(params: Any, *, add: bool = False) -> Any:
    """Parameters of any nesting with one bias: of two weights their sum, of two gradients the first.

    Each of two biases that are added has the whole gradient of their sum.
    """

    def one(record: Any) -> Any:
        first, second = halves("benchmarks", record.b, 3, record.w_x)
        return record._replace(b=first + second if add else first)

    return jax.tree.map(one, params, is_leaf=lambda node: hasattr(node, "w_x"))
