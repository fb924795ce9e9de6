"""SciPy's L-BFGS as a solver of nemos.

nemos compiles its own solvers anew for every fit, line search included: seconds each, where a
comparison has hundreds of fits. Here only the penalised loss and its gradient are compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from nemos import solvers
from scipy.optimize import OptimizeResult, minimize

NAME = "LBFGS[scipy]"
MEMORY = 20
"""Steps that the curvature is estimated from."""


class ScipyLBFGS:
    """See `nemos.solvers.SolverProtocol`, whose arguments these are.

    Args:
        unregularized_loss, regularizer, regularizer_strength, has_aux, init_params: nemos's.
        tol: of the largest entry of the gradient.
        maxiter: most steps.
    """

    def __init__(
        self,
        unregularized_loss: Callable,
        regularizer: Any,
        regularizer_strength: Any,
        has_aux: bool,
        init_params: Any = None,
        tol: float = 1e-6,
        maxiter: int = 500,
    ) -> None:
        if has_aux:
            raise ValueError("losses with more than a number are not minimised here")
        self.fun = regularizer.penalized_loss(
            unregularized_loss, params=init_params, strength=regularizer_strength
        )
        self._tol, self._maxiter = tol, maxiter

    def init_state(self, init_params: Any, *args: Any) -> OptimizeResult:
        """Nothing is known before a run."""
        return OptimizeResult(nit=0, success=False, fun=None)

    def update(self, params: Any, state: OptimizeResult, *args: Any) -> Any:
        """Single steps are not taken: a run is."""
        raise NotImplementedError

    def run(self, init_params: Any, *args: Any) -> tuple[Any, OptimizeResult, None]:
        """The parameters at the minimum."""
        first, unravel = ravel_pytree(init_params)
        gradient = jax.jit(lambda x, *data: jax.value_and_grad(self._flat(unravel))(x, *data))

        def value(x: np.ndarray) -> tuple[float, np.ndarray]:
            loss, slope = gradient(x, *args)
            return float(loss), np.asarray(slope, float)

        options = {"maxiter": self._maxiter, "gtol": self._tol, "ftol": 0.0, "maxcor": MEMORY}
        found = minimize(
            value, np.asarray(first, float), jac=True, method="L-BFGS-B", options=options
        )
        return unravel(found.x), found, None

    def _flat(self, unravel: Callable) -> Callable:
        return lambda x, *data: self.fun(unravel(x), *data)

    @classmethod
    def get_accepted_arguments(cls) -> set[str]:
        """Its own."""
        return {"tol", "maxiter"}

    def get_optim_info(self, state: OptimizeResult) -> solvers.OptimizationInfo:
        """What became of a run."""
        stopped = state.nit >= self._maxiter
        return solvers.OptimizationInfo(state.fun, state.nit, bool(state.success), stopped)


solvers.register("LBFGS", ScipyLBFGS, backend="scipy", replace=True)
