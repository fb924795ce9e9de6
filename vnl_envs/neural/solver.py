"""SciPy's L-BFGS as a solver of nemos.

nemos compiles its own solvers for every fit, with the line search. That takes seconds, and a
comparison has hundreds of fits. This solver compiles only the penalised loss and its gradient.
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
"""Number of steps from which the curvature is estimated."""


class ScipyLBFGS:
    """A solver with the interface of `nemos.solvers.SolverProtocol`.

    Args:
        unregularized_loss, regularizer, regularizer_strength, has_aux, init_params: see there.
        tol: tolerance of the largest entry of the gradient.
        maxiter: greatest number of steps.
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
            raise ValueError("losses with auxiliary values cannot be minimised")
        self.fun = regularizer.penalized_loss(
            unregularized_loss, params=init_params, strength=regularizer_strength
        )
        self._tol, self._maxiter = tol, maxiter

    def init_state(self, init_params: Any, *args: Any) -> OptimizeResult:
        """The state before a run."""
        return OptimizeResult(nit=0, success=False, fun=None)

    def update(self, params: Any, state: OptimizeResult, *args: Any) -> Any:
        """Not available: the solver has no single steps."""
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
        """Names of the options that users can set."""
        return {"tol", "maxiter"}

    def get_optim_info(self, state: OptimizeResult) -> solvers.OptimizationInfo:
        """Summary of a run."""
        stopped = state.nit >= self._maxiter
        return solvers.OptimizationInfo(state.fun, state.nit, bool(state.success), stopped)


solvers.register("LBFGS", ScipyLBFGS, backend="scipy", replace=True)
