// What each variant offers, a table for one instruction set, to the C interface.

#pragma once

#include <cstdint>

namespace feedback {

// A of H = A · D · Aᵀ, transposed: row k of `a`, at a + k × row, holds A(0 … k, k), up to the end of its block of 256. `d` are
// n floats; `raw`, of 256 × (n + 64) floats, is used while factoring. n is a multiple of 256.
struct Factor {
    float *a, *d, *raw;
    int64_t n, row;
};

// Rows, (n_rows, n) float32, to be rounded into `blocks`, which hold their scales. `order` is the column of each place,
// `places` the place of each column; `moments` (n, 256) are the blocks on the diagonal of the matrix that was factored;
// `work` has the floats that `work_size` tells.
struct Rounding {
    Factor factor;
    const float* moments;
    const int32_t *order, *places;
    const float* rows;
    int64_t n_rows;
    int sweeps;
    void* blocks;
    float* work;
};

struct Type {
    int type;  // number in ggml_type
    void (*round)(const Rounding& rounding);
};

// See factor.h and rounding.h.
struct Kernels {
    const Type* first;
    int n;
    void (*shrink_rows)(const float* h, const int32_t* order, float keep, float damping, int64_t first, Factor f);
    bool (*factor_block)(Factor f, int64_t first);
    void (*factor_strips)(Factor f, int64_t first, int64_t begin, int64_t end);
    void (*subtract_block)(Factor f, int64_t first, int64_t above);
    int64_t (*work_size)(int64_t n, int64_t n_rows);
};

Kernels sse2_kernels();
Kernels avx2_kernels();
Kernels avx512_kernels();
Kernels neon_kernels();

}  // namespace feedback
