"""Products of activations and quantized weights where they lie in the mapped file: kernels, and the choice of them."""
