"""The assets, one module a layer; an asset calls one kernel function and says what came of it."""
