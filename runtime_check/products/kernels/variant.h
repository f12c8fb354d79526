// What each variant offers, a table for one instruction set, to the C interface.

#pragma once

#include <cstdint>

namespace products {

constexpr int64_t COLUMN_BYTES = 320;  // of 256 activations

typedef void (*FromFloat)(const float* x, void* blocks, int64_t n);  // of ggml's ggml_type_traits_cpu

// Rows `first` to `end` of a product: y, (n_columns, n_rows) floats, of weights, (n_rows, row) in rows of `row_bytes`, and
// columns, (row / 256, n_columns) of COLUMN_BYTES. Rows from `ahead` on come next, and are fetched from memory before.
struct Rows {
    const uint8_t* weights;
    int64_t row_bytes, n_rows, row, first, end, ahead, n_columns;
    const void* columns;
    float* y;
};

struct Kernel {
    int type, activations;  // numbers in ggml_type, of the weights and of what ggml quantizes activations to
    void (*quantize)(const float* x, int n, FromFloat from_float, void* column);  // n of at most 256 activations
    void (*multiply)(const Rows& rows);                                           // two columns or more
    void (*multiply_few)(const Rows& rows);                                       // at most `few` columns
    int few;
};

struct Kernels {
    const Kernel* first;
    int n;
};

Kernels avx2_kernels();
Kernels avx_vnni_kernels();
Kernels avx512_vnni_kernels();
Kernels neon_dot_kernels();

}  // namespace products
