"""The method: noise on inputs and activations. It needs torch and numpy alone."""
