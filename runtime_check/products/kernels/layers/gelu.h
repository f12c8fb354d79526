// GELU (Hendrycks & Gimpel 2016) with the error function, as ggml's and PyTorch's: x (1 + erf(x / √2)) / 2.

#pragma once

#include "polynomial.h"

namespace {

inline void gelu(const float* x, float* y, int64_t n) {
    for (int64_t i = 0; i < n; i += WIDTH) {
        const int64_t left = n - i < WIDTH ? n - i : WIDTH;
        Floats some = {};
        memcpy(&some, x + i, left * sizeof(float));
        some = 0.5f * some * (1.0f + error_function(some * 0x1.6a09e6p-1f));
        memcpy(y + i, &some, left * sizeof(float));
    }
}

}  // namespace
