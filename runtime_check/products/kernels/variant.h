// What each variant, for one instruction set, offers to the C interface: kernels of products, and of layers between them.

#pragma once

#include <cstdint>

namespace products {

typedef void (*FromFloat)(const float* x, void* blocks, int64_t n);  // of ggml's ggml_type_traits_cpu

// Rows `first` to `end` of a product: y, (n_columns, n_rows) floats, of weights, (n_rows, row) in rows of `row_bytes`, and
// columns, as the kernel quantizes them. Rows from `ahead` on come next, and may be fetched from memory before.
struct Rows {
    const uint8_t* weights;
    int64_t row_bytes, n_rows, row, first, end, ahead, n_columns;
    const void* columns;
    float* y;
};

struct Kernel {
    int type, activations;  // numbers in ggml_type, of the weights and of what activations are quantized to
    int weights;            // of a row that are multiplied at once: a column is quantized in pieces of as many activations
    int column_bytes;       // of a piece
    void (*quantize)(const float* x, int n, FromFloat from_float, void* piece);  // n of at most `weights` activations
    void (*multiply)(const Rows& rows);                                          // any number of columns
    void (*multiply_few)(const Rows& rows);                                      // at most `few`
    int few;
};

// Scaled dot-product attention of the heads that share one head of keys and values, for some of the queries: q,
// (n_queries, heads, dim) over k and v, (n_keys, dim) each → y, (n_queries, heads, dim). Rows lie as many floats apart; of
// the mask, (n_queries, n_keys), what is not 0 hides a key; null: each query sees every key.
struct Attention {
    static constexpr int MOST_ROWS = 64, MOST_DIM = 256;  // n_queries × heads; dim, a multiple of 16
    const float *q, *k, *v;
    const uint16_t* mask;
    float* y;
    int64_t dim, n_queries, n_keys, heads, q_row, q_head, k_row, v_row, mask_row, y_row;
    float scale;
};

struct Layers {
    void (*attend)(const Attention& attention);
    void (*gelu)(const float* x, float* y, int64_t n);
};

struct Kernels {
    const Kernel* first;
    int n;
    const Layers* layers;
};

Kernels avx2_kernels();
Kernels avx_vnni_kernels();
Kernels avx512_vnni_kernels();
Kernels neon_dot_kernels();

}  // namespace products
