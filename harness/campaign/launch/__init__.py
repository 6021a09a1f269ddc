"""How trials are launched: each as a subprocess of its own, so that none takes the others down with it."""
